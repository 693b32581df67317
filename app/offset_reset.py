"""Setting a role's committed offsets by hand, where nobody but a person can know what was worked (`ebs offsets`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from app.broker_probe import PLAINTEXT
from app.consumer_groups import read_committed, read_member_count
from app.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.broker_probe import Security

EARLIEST = "earliest"
LATEST = "latest"
_PAUSE_S = 0.5


class Reset(NamedTuple):
    """A partition, its committed offset before (-1: none) and after, and what its log has."""

    tp: TopicPartition
    before: int
    after: int
    begin: int
    end: int


async def reset_offsets(
    bootstrap: str,
    group_id: str,
    topics: Sequence[str],
    to: str | int,
    *,
    numbers: Sequence[int] = (),
    all_partitions: bool = False,
    patience_s: float,
    security: Security = PLAINTEXT,
    say: Callable[[str], None],
) -> list[Reset]:
    """Commit `to` (`EARLIEST`, `LATEST`, an offset) and return what was changed.

    Of all partitions (of these `numbers`, if any are given), or only of those whose committed offset is gone or beyond
    the end. A group whose workers have ended without a word has members for a session time-out: they are waited for.

    Raises `BrokerError` if the group still has members after `patience_s`, or the broker refuses.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="ebs-offsets", **security)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="ebs-offsets",
        group_id=group_id,
        enable_auto_commit=False,
        isolation_level="read_committed",
        **security,
    )
    try:
        await admin.start()
        await consumer.start()
        await _wait_until_empty(admin, group_id, patience_s, say)
        described = {one["topic"]: len(one["partitions"]) for one in await admin.describe_topics(list(topics))}
        partitions = [
            TopicPartition(name, number)
            for name in topics
            for number in range(described.get(name, 0))
            if not numbers or number in numbers
        ]
        resets = await _plan(admin, consumer, group_id, partitions, to)
        if not all_partitions:
            resets = [one for one in resets if one.before < 0 or one.before > one.end]
        if resets:
            consumer.assign([one.tp for one in resets])
            await consumer.commit({one.tp: OffsetAndMetadata(one.after, "") for one in resets})
    except KafkaError as error:
        raise BrokerError(f"the offsets of {group_id} at {bootstrap} cannot be set: {error!r}") from error
    else:
        return resets
    finally:
        await consumer.stop()
        await admin.close()


async def _wait_until_empty(admin: Any, group_id: str, patience_s: float, say: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    give_up_at_s = loop.time() + patience_s
    said = False
    while count := await read_member_count(admin, group_id):
        if loop.time() >= give_up_at_s:
            raise BrokerError(f"{group_id} has {count} members: stop its workers first, nothing was changed")
        if not said:
            said = True
            say(f"waiting for {count} members of {group_id} to be gone")
        await asyncio.sleep(_PAUSE_S)


async def _plan(
    admin: Any, consumer: Any, group_id: str, partitions: Sequence[TopicPartition], to: str | int
) -> list[Reset]:
    if not partitions:
        return []
    committed = await read_committed(admin, group_id, partitions)
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    return [Reset(tp, committed[tp], _target(to, begins[tp], ends[tp]), begins[tp], ends[tp]) for tp in partitions]


def _target(to: str | int, begin: int, end: int) -> int:
    if to == EARLIEST:
        return begin
    return end if to == LATEST else min(max(int(to), begin), end)
