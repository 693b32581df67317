"""Questions about consumer groups: what passes is asked again, what hides an error is no answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    NodeNotReadyError,
)
from aiokafka.structs import OffsetAndMetadata

from app.kafka.groups import NOTHING_COMMITTED, read_committed, read_member_count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

GROUP = "ebs-statistics"
PARTITIONS = [TopicPartition("objects", 0), TopicPartition("objects", 1)]
COMMITTED = {PARTITIONS[0]: OffsetAndMetadata(7, ""), PARTITIONS[1]: OffsetAndMetadata(-1, "")}


def described(error_code: int, *members: str) -> list[Any]:
    """Return an answer as aiokafka gives it: the error stands in it, and nobody has looked at it."""
    group = (error_code, GROUP, "Stable", "consumer", "", [(name, "", "", b"", b"") for name in members])
    return [SimpleNamespace(groups=[group])]


class Admin:
    """An admin client that gives these answers, one after another, and then the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.questions = 0

    def _answer(self) -> Any:
        self.questions += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def list_consumer_group_offsets(self, group_id: str, partitions: list[TopicPartition]) -> Any:
        """Answer."""
        assert (GROUP, PARTITIONS) == (group_id, partitions)
        return self._answer()

    async def describe_consumer_groups(self, group_ids: list[str]) -> Any:
        """Answer."""
        assert [GROUP] == group_ids
        return self._answer()


async def committed(admin: Admin) -> dict[TopicPartition, int]:
    """Ask for what is committed, without pauses."""
    return await read_committed(admin, GROUP, PARTITIONS, pause_s=0)


async def member_count(admin: Admin) -> int:
    """Ask for the members, without pauses."""
    return await read_member_count(admin, GROUP, pause_s=0)


@pytest.mark.parametrize(
    ("ask", "trouble", "answer", "told"),
    [
        (committed, {}, COMMITTED, {PARTITIONS[0]: 7, PARTITIONS[1]: NOTHING_COMMITTED}),
        (committed, CoordinatorLoadInProgressError(), COMMITTED, {PARTITIONS[0]: 7, PARTITIONS[1]: NOTHING_COMMITTED}),
        (member_count, described(CoordinatorLoadInProgressError.errno), described(0, "a", "b"), 2),
        (member_count, GroupCoordinatorNotAvailableError(), described(0), 0),
        (member_count, NodeNotReadyError(), described(0, "a"), 1),
    ],
)
def test_what_passes_is_asked_again(
    ask: Callable[[Admin], Awaitable[object]], trouble: object, answer: object, told: object
) -> None:
    """A refusal is an error, an empty answer, or a code within an answer; what is said in the end counts."""
    admin = Admin(trouble, trouble, answer)
    assert told == asyncio.run(ask(admin))
    assert admin.questions == 3


@pytest.mark.parametrize(
    ("ask", "refusal"),
    [
        (committed, GroupAuthorizationFailedError()),
        (member_count, GroupAuthorizationFailedError()),
        (member_count, described(GroupAuthorizationFailedError.errno)),
    ],
)
def test_refusal_is_reported_at_once(ask: Callable[[Admin], Awaitable[object]], refusal: object) -> None:
    """A user who may not Describe the group will not be told by asking again."""
    admin = Admin(refusal)
    with pytest.raises(GroupAuthorizationFailedError):
        asyncio.run(ask(admin))
    assert admin.questions == 1


@pytest.mark.parametrize("ask", [committed, member_count])
def test_broker_that_never_tells_is_given_up(ask: Callable[[Admin], Awaitable[object]]) -> None:
    """After some tries the last error is raised."""
    admin = Admin(CoordinatorLoadInProgressError())
    with pytest.raises(CoordinatorLoadInProgressError):
        asyncio.run(ask(admin))
    assert 1 < admin.questions < 100
