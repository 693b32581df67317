"""What a broker says of consumer groups, asked again until it can tell.

A coordinator that has just been made (the first question makes it) or still loads refuses for a moment; and aiokafka
does not look at the error of a whole answer, so that a refusal seems to be a group without offsets or members.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError, for_code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiokafka import TopicPartition

Answer = TypeVar("Answer")

NOTHING_COMMITTED = -1
"""The offset of a partition of which a group has committed none."""

_TRIES = 25
_PAUSE_S = 0.2


async def read_committed(
    admin: Any, group_id: str, partitions: Sequence[TopicPartition], *, pause_s: float = _PAUSE_S
) -> dict[TopicPartition, int]:
    """Return the committed offset of each partition, `NOTHING_COMMITTED` where there is none.

    Raises aiokafka's `KafkaError` if the broker refuses, or cannot tell for 5 s.
    """

    async def ask() -> dict[TopicPartition, int]:
        answer = await admin.list_consumer_group_offsets(group_id, partitions=list(partitions))
        if partitions and not answer:  # an answer without any partition hides an error
            raise GroupCoordinatorNotAvailableError(f"no answer to what {group_id} has committed")
        return {tp: found.offset for tp, found in answer.items()}

    return await _until_told(ask, pause_s)


async def read_member_count(admin: Any, group_id: str, *, pause_s: float = _PAUSE_S) -> int:
    """Return how many members a group has. Raises as `read_committed` does."""

    async def ask() -> int:
        (response,) = await admin.describe_consumer_groups([group_id])
        ((error_code, _group, _state, _protocol_type, _protocol, members, *_rest),) = response.groups
        if error_code:
            raise for_code(error_code)(f"no answer to who is in {group_id}")
        return len(members)

    return await _until_told(ask, pause_s)


async def _until_told(ask: Callable[[], Awaitable[Answer]], pause_s: float) -> Answer:
    for _ in range(_TRIES - 1):
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable:
                raise
        await asyncio.sleep(pause_s)
    return await ask()
