"""How a view that is built anew begins: what is counted, then where the ledger ends, then its rows, then objects."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CoordinatorLoadInProgressError, GroupAuthorizationFailedError, NodeNotReadyError
from aiokafka.structs import OffsetAndMetadata

from api.view.forgotten import read_counted
from api.view.ledger_first import begin_anew
from app.topics import LEDGER_CHANGELOG, OBJECTS, STATISTICS_APP

HELD = [TopicPartition(OBJECTS, 0), TopicPartition(OBJECTS, 1)]
LEDGER = TopicPartition(LEDGER_CHANGELOG, 0)


class Consumer:
    """A consumer that holds partitions back; `at` is how far it has read the ledger."""

    def __init__(self) -> None:
        self.held: set[TopicPartition] = set()
        self.at = 0

    def pause(self, *partitions: TopicPartition) -> None:
        """Hold partitions back."""
        self.held |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        """Let them come."""
        self.held -= set(partitions)

    async def position(self, _tp: TopicPartition) -> int:
        """Return the next offset of the ledger."""
        return self.at


class BusyStatistics:
    """Counts an object and writes its row with each question that is asked, and before it answers."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._counted = 0

    def _step(self) -> None:
        assert set(HELD) == self._consumer.held, "an object might have been read before the question was answered"
        self._counted += 1

    async def read_counted(self) -> dict[int, int]:
        """Return what is counted."""
        self._step()
        return {0: self._counted}

    async def read_ledger_ends(self) -> dict[TopicPartition, int]:
        """Return where the ledger ends: a row for each object that is counted."""
        self._step()
        return {LEDGER: self._counted}


def test_rows_of_all_that_is_counted_are_waited_for():
    """While the statistics work, no object counts as counted whose row may lie behind the ends that are waited for."""

    async def scenario() -> None:
        consumer = Consumer()
        statistics = BusyStatistics(consumer)
        counted, ledger_first = await begin_anew(consumer, HELD, statistics.read_counted, statistics.read_ledger_ends)
        consumer.at = counted[0]
        assert not await ledger_first.is_over()
        assert set(HELD) == consumer.held
        consumer.at += 1
        assert await ledger_first.is_over()
        assert set() == consumer.held

    asyncio.run(scenario())


class Admin:
    """An admin client that gives these answers, one after another, and then the last one for ever."""

    def __init__(self, *answers: Exception | dict[TopicPartition, OffsetAndMetadata]) -> None:
        self._answers = list(answers)
        self.questions = 0

    async def list_consumer_group_offsets(self, group: str, partitions: list[TopicPartition]) -> object:
        """Answer."""
        assert (STATISTICS_APP, HELD) == (group, partitions)
        self.questions += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


ANSWER = {HELD[0]: OffsetAndMetadata(7, ""), HELD[1]: OffsetAndMetadata(-1, "")}


@pytest.mark.parametrize("trouble", [CoordinatorLoadInProgressError(), NodeNotReadyError(), {}])
def test_coordinator_that_is_not_ready_is_asked_again(trouble, caplog):
    """Errors that pass, and an answer that hides one, are no answer: what it says in the end counts, without a word."""
    admin = Admin(trouble, trouble, ANSWER)
    assert {0: 7, 1: -1} == asyncio.run(read_counted(admin, HELD, pause_s=0))
    assert (3, []) == (admin.questions, [one for one in caplog.records if one.name.startswith("api.")])


def test_refusal_is_told_at_once(caplog):
    """A user who may not Describe the group is not asked for again; the log says what then is shown, and the fix."""
    admin = Admin(GroupAuthorizationFailedError())
    with caplog.at_level(logging.WARNING):
        assert {} == asyncio.run(read_counted(admin, HELD, pause_s=0))
    assert 1 == admin.questions
    assert "Let this user Describe the group" in caplog.text


def test_broker_that_never_tells_is_given_up(caplog):
    """The view is not kept waiting for ever: after some tries it is built without, which is logged."""
    admin = Admin(CoordinatorLoadInProgressError())
    with caplog.at_level(logging.WARNING):
        assert {} == asyncio.run(read_counted(admin, HELD, pause_s=0))
    assert 1 < admin.questions < 100
    assert "are shown as CREATED" in caplog.text
