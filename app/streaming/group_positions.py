"""What a claim reads before its tables are restored: committed offsets, the logs as they are, the topics' ids."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, NamedTuple

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

_RETRY_S = 0.1
_REPORT_S = 3.0
_MAX_END_LOOKS = 30
"""How often an end below a committed offset is asked for again: a new leader may not know it at once."""


class GroupPositions(NamedTuple):
    """Where a group is in its inputs: stable committed offsets, the offsets that the logs have, ids.

    `kept_to`: up to where each log still is the one that was worked (`leader_epochs`). The metadata of the commits is
    without what they tell of changelogs: `told_ends`, by partition number and table.
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
    """Read them, the offsets once no open transaction can change them any more; None if nobody wants them by then.

    Topics with other ids than `known_ids` are waited for: whoever surveys them decides.
    """
    await end_abandoned()
    asked_count = 0
    while (committed := await fetch_stable_offsets(client, group_id, inputs)) is None:
        if not is_wanted():
            return None
        asked_count += 1
        if asked_count % round(_REPORT_S / _RETRY_S) == 0:
            log.info("waiting until an open transaction of another worker has ended")
            await end_abandoned()
        await asyncio.sleep(_RETRY_S)
    names = list(dict.fromkeys(tp.topic for tp in inputs))
    while (found := await _read_ids(client, names)) is None or found[1] != (known_ids or found[1]):
        if not is_wanted():
            return None
        await asyncio.sleep(_RETRY_S)
    cluster_id, topic_ids = found
    logs = await _read_logs(reader, inputs, committed)
    while (ends := await read_epoch_ends(client, _epochs_of(committed))) is None:
        if not is_wanted():
            return None
        await asyncio.sleep(_RETRY_S)
    kept_to = {tp: min(one.stop, ends.get(tp, one.stop)) for tp, one in logs.items()}
    told_ends = told_ends_of(committed)
    committed = {tp: one._replace(metadata=split_ends(one.metadata)[0]) for tp, one in committed.items()}
    return GroupPositions(committed, logs, kept_to, topic_ids, cluster_id, told_ends)


async def read_commits(
    client: AIOKafkaClient, group_id: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[CommittedOffset, int]] | None:
    """Return what a group has committed, and where the log of that commit's leader epoch ends; None: ask again.

    The end is `sys.maxsize` where the commit has no epoch.
    """
    committed = await fetch_stable_offsets(client, group_id, partitions)
    if committed is None:
        return None
    ends = await read_epoch_ends(client, _epochs_of(committed))
    return None if ends is None else {tp: (one, ends.get(tp, sys.maxsize)) for tp, one in committed.items()}


def _epochs_of(committed: Mapping[TopicPartition, CommittedOffset]) -> dict[TopicPartition, int]:
    """Return the leader epochs that were committed, `NO_EPOCH` where there is none."""
    return {tp: one.leader_epoch for tp, one in committed.items()}


async def _read_ids(client: AIOKafkaClient, names: Sequence[str]) -> tuple[str, dict[str, str]] | None:
    """Return the ids of the cluster and of the topics; None while one is missing, or nobody answers."""
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
