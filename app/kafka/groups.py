"""Reads consumer groups from a broker, and repeats the request until the broker can answer.

A coordinator that is new (the first request makes it) or still loading refuses for a moment. aiokafka ignores the error
of the whole answer, so a refusal would look like a group without offsets or members.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    KafkaError,
    for_code,
)
from aiokafka.protocol.group import HeartbeatRequest

from app.errors import AccessRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiokafka import TopicPartition

    from app.kafka.cluster import Cluster

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)

NOTHING_COMMITTED = -1
"""The offset of a partition without a committed offset."""

_TRIES = 25
_PAUSE_S = 0.2
_REQUEST_TIMEOUT_MS = 10_000


async def read_committed(
    admin: Any, group_id: str, partitions: Sequence[TopicPartition], *, pause_s: float = _PAUSE_S
) -> dict[TopicPartition, int]:
    """Return the committed offset of each partition, `NOTHING_COMMITTED` where there is none.

    Raises aiokafka's `KafkaError` if the broker refuses, or cannot answer for 5 s.
    """

    async def ask() -> dict[TopicPartition, int]:
        answer = await admin.list_consumer_group_offsets(group_id, partitions=list(partitions))
        if partitions and not answer:  # an answer without any partition hides an error
            raise GroupCoordinatorNotAvailableError(f"the broker does not say what {group_id} has committed")
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


async def check_group(cluster: Cluster, group_id: str) -> None:
    """Raise `AccessRefused` if our user may not join a group; aiokafka would wait for ever without a message.

    It sends a heartbeat of an unknown member, which changes nothing. Other errors are left to the normal clients.
    """
    refusal = AccessRefused(
        f"the Kafka user may not join the group {group_id} at {cluster.bootstrap}: allow it Read and Describe "
        "(docs/how-to/own-kafka.md)"
    )
    try:
        async with cluster.within(_REQUEST_TIMEOUT_MS).client("ebs-group") as client:
            node_id = await client.coordinator_lookup(CoordinationType.GROUP, group_id)
            await client.ready(node_id, group=ConnectionGroup.COORDINATION)
            request = HeartbeatRequest(group_id, 0, "nobody")
            response = await client.send(node_id, request, group=ConnectionGroup.COORDINATION)
    except GroupAuthorizationFailedError:
        raise refusal from None
    except (KafkaError, OSError) as error:
        _log.debug("whether the group %s may be joined is not known: %r", group_id, error)
    else:
        if for_code(response.error_code) is GroupAuthorizationFailedError:
            raise refusal


def unowned_numbers(partition_count: int, assignments: Sequence[bytes]) -> tuple[int, ...]:
    """Return the partition numbers that no member's assignment (as the protocol has it) names, of any topic."""
    owned = {
        number
        for data in assignments
        if data
        for _topic, numbers in ConsumerProtocolMemberAssignment.decode(data).assignment
        for number in numbers
    }
    return tuple(sorted(set(range(partition_count)) - owned))


async def _until_told(ask: Callable[[], Awaitable[Answer]], pause_s: float) -> Answer:
    for _ in range(_TRIES - 1):
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable:
                raise
        await asyncio.sleep(pause_s)
    return await ask()
