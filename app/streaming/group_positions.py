"""The data that a claim reads before its tables are restored: committed offsets, ends of logs, ids of topics."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from aiokafka.errors import KafkaError

from app.kafka.fencing import fetch_stable_offsets
from app.kafka.leader_epochs import read_epoch_ends
from app.kafka.topic_metadata import read_topics
from app.streaming.told_ends import split_ends

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aiokafka import TopicPartition
    from aiokafka.client import AIOKafkaClient

    from app.kafka.fencing import CommittedOffset
    from app.streaming.input_reader import InputReader

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_RETRY_S = 0.1
_REPORT_S = 3.0
_HELD_S = 60.0
"""No transaction of ours is open for so long: EBS_TRANSACTION_TIMEOUT_S, 10 s, and 10 s until the broker looks."""
_HELD = (
    "Kafka has held back the committed offsets of %s for %d s, longer than a transaction of ours lasts. If "
    "`kafka-transactions.sh find-hanging` names a transaction, `abort` ends it (Kafka 4.2 to 4.4 forget some, "
    "KAFKA-20734). If it names none, the group's coordinator waits for one that has ended: restart that broker"
)
_MAX_END_LOOKS = 30
"""How often an end below a committed offset is asked for again: a new leader may not know it at once."""


class GroupPositions(NamedTuple):
    """The positions of a group: stable committed offsets, the offsets that exist in the logs, ids.

    `kept_to`: up to this offset each log still has the records that were processed (`leader_epochs`). `told_ends` has
    the ends of changelogs from the commits, by partition number and table; the metadata no longer contains them.
    """

    committed: Mapping[TopicPartition, CommittedOffset]
    logs: Mapping[TopicPartition, range]
    kept_to: Mapping[TopicPartition, int]
    topic_ids: Mapping[str, str]
    cluster_id: str
    told_ends: Mapping[int, Mapping[str, int]]


def told_ends_of(committed: Mapping[TopicPartition, CommittedOffset]) -> dict[int, dict[str, int]]:
    """Return the ends of changelogs that commits tell, by partition number and table: the newest commit's."""
    told: dict[int, dict[str, int]] = {}
    for tp, one in committed.items():
        by_table = told.setdefault(tp.partition, {})
        for table, end in split_ends(one.metadata)[1].items():
            by_table[table] = max(end, by_table.get(table, 0))
    return told


async def read_positions(
    client: AIOKafkaClient,
    reader: InputReader,
    group_id: str,
    inputs: Sequence[TopicPartition],
    *,
    known_ids: Mapping[str, str],
    is_wanted: Callable[[], bool],
    end_abandoned: Callable[[], Awaitable[None]],
) -> GroupPositions | None:
    """Read the positions when no open transaction can change them any more; None if they are no longer wanted then.

    While topics have other ids than `known_ids`, this waits: the survey decides what happens.
    """
    began_at_s = time.monotonic()

    async def report() -> None:
        if time.monotonic() - began_at_s < _HELD_S:
            log.info("waiting until an open transaction of another worker has ended")
        else:
            log.warning(_HELD, group_id, round(time.monotonic() - began_at_s))
        await end_abandoned()

    async def read_known_ids() -> tuple[str, dict[str, str]] | None:
        found = await _read_ids(client, list(dict.fromkeys(tp.topic for tp in inputs)))
        return found if found is not None and found[1] == (known_ids or found[1]) else None

    await end_abandoned()
    try:
        committed = await _answer(lambda: fetch_stable_offsets(client, group_id, inputs), is_wanted, report)
        cluster_id, topic_ids = await _answer(read_known_ids, is_wanted)
        logs = await _read_logs(reader, inputs, committed)
        ends = await _answer(lambda: read_epoch_ends(client, _epochs_of(committed)), is_wanted)
    except _NotWanted:
        return None
    kept_to = {tp: min(one.stop, ends.get(tp, one.stop)) for tp, one in logs.items()}
    told_ends = told_ends_of(committed)
    committed = {tp: one._replace(metadata=split_ends(one.metadata)[0]) for tp, one in committed.items()}
    return GroupPositions(committed, logs, kept_to, topic_ids, cluster_id, told_ends)


class _NotWanted(Exception):
    """Nobody waits for the answer any more."""


async def _answer(
    ask: Callable[[], Awaitable[Answer | None]],
    is_wanted: Callable[[], bool],
    report: Callable[[], Awaitable[None]] | None = None,
) -> Answer:
    """Ask again until there is an answer; `report` is called every 3 s. Raises `_NotWanted`."""
    asked_count = 0
    while (answer := await ask()) is None:
        if not is_wanted():
            raise _NotWanted
        asked_count += 1
        if report is not None and asked_count % round(_REPORT_S / _RETRY_S) == 0:
            await report()
        await asyncio.sleep(_RETRY_S)
    return answer


async def read_commits(
    client: AIOKafkaClient, group_id: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[CommittedOffset, int]] | None:
    """Return a group's commit, and where the log of the commit's leader epoch ends; None: ask again.

    The end is `sys.maxsize` if the commit has no leader epoch.
    """
    committed = await fetch_stable_offsets(client, group_id, partitions)
    if committed is None:
        return None
    ends = await read_epoch_ends(client, _epochs_of(committed))
    return None if ends is None else {tp: (one, ends.get(tp, sys.maxsize)) for tp, one in committed.items()}


def _epochs_of(committed: Mapping[TopicPartition, CommittedOffset]) -> dict[TopicPartition, int]:
    """Return the committed leader epochs, `NO_EPOCH` if there is none."""
    return {tp: one.leader_epoch for tp, one in committed.items()}


async def _read_ids(client: AIOKafkaClient, names: Sequence[str]) -> tuple[str, dict[str, str]] | None:
    """Return the ids of the cluster and of the topics; None while an id is missing or no broker answers."""
    try:
        cluster_id, topics = await read_topics(client, names)
    except KafkaError as error:
        if not error.retriable:
            raise
        return None
    if not all(topics[name].partition_count for name in names):
        return None
    return cluster_id, {name: topics[name].topic_id for name in names}


async def _read_logs(
    reader: InputReader, inputs: Sequence[TopicPartition], committed: Mapping[TopicPartition, CommittedOffset]
) -> dict[TopicPartition, range]:
    for _ in range(_MAX_END_LOOKS):
        ends = await reader.end_offsets_of(inputs)
        if all(committed[tp].offset <= ends[tp] for tp in inputs):
            break
        await asyncio.sleep(_RETRY_S)
    begins = await reader.earliest_offsets_of(inputs)
    return {tp: range(begins[tp], max(begins[tp], ends[tp])) for tp in inputs}
