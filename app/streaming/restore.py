"""Filling a table's store from its changelog.

The order matters. First, read the stable committed offsets of the inputs: from then on the former owner cannot commit
any more (KIP-447). Second, read the changelog's high watermark: all rows that belong to those offsets are below it.
Third, read the changelog with read_committed up to that watermark, not up to the last stable offset: a dead worker's
open transaction holds the last stable offset back until its timeout, and later rows would be missing at the next owner
(in a fault run, 1,281 objects were lost from the windows this way).
A new leader may not know its high watermark at once. So if a changelog ends before the end in the commits
(`told_ends`), the end is read again. If it is still too short, its newest rows are lost, and the caller decides.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from app.errors import RestoreFailed
from app.streaming.foreign_rows import ForeignRecords
from app.streaming.offset_notes import NOTE_KEY
from app.streaming.told_ends import LOST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiokafka import TopicPartition

    from app.kafka.cluster import Cluster
    from app.kafka.reading import RecordReader
    from app.streaming.stores import TableStore

log = logging.getLogger(__name__)

_PARTITION_FETCH_BYTES = 1 << 20
_POLL_MS = 200
_MAX_END_LOOKS = 30
_END_LOOK_S = 0.1


class RestoreProgress:
    """How far a restore of `partition_count` partitions is: rows written, and changelog offsets `done` of `total`."""

    def __init__(self, partition_count: int) -> None:
        self.partition_count = partition_count
        self.row_count = 0
        self.done = 0
        self.total = 0


async def restore_stores(
    cluster: Cluster,
    targets: Mapping[TopicPartition, TableStore],
    *,
    wanted: Callable[[TopicPartition], bool],
    stall_timeout_s: float,
    told_ends: Mapping[TopicPartition, int],
    check_ends: Callable[[], None] = lambda: None,
    progress: RestoreProgress | None = None,
    foreign: ForeignRecords | None = None,
) -> int:
    """Read each changelog partition into its store, and set the store's end; returns the number of rows.

    `told_ends` are the ends that the commits tell, where they do. `check_ends` is called once the stores know theirs,
    and may raise: a log that has lost its tail may lack the marker of a transaction, and the read would never end.
    What is no row of its table is not written, and left to `foreign`.
    A partition that is no longer `wanted` (it was revoked meanwhile) is left alone. Raises `RestoreFailed` after
    `stall_timeout_s` without any progress.
    """
    if not targets:
        return 0
    ends = await _read_ends(cluster, list(targets), told_ends)
    for tp, end in ends.items():
        targets[tp].changelog_end = end
    check_ends()
    ends = {tp: end for tp, end in ends.items() if end > 0}
    if not ends:
        return 0
    async with cluster.reader(
        "ebs-restore", max_partition_fetch_bytes=_PARTITION_FETCH_BYTES, fetch_max_wait_ms=_POLL_MS
    ) as consumer:
        consumer.assign(list(ends))
        await consumer.seek_to_beginning(*ends)
        return await _read_to(
            consumer,
            ends,
            targets,
            wanted,
            stall_timeout_s,
            progress=progress or RestoreProgress(len(ends)),
            foreign=foreign or ForeignRecords(),
        )


async def _read_ends(
    cluster: Cluster, partitions: list[TopicPartition], told_ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    ends = await _high_watermarks(cluster, partitions)
    for _ in range(_MAX_END_LOOKS):
        if all(ends[tp] >= end or end == LOST for tp, end in told_ends.items()):
            break
        await asyncio.sleep(_END_LOOK_S)
        ends = await _high_watermarks(cluster, partitions)
    return ends


async def _high_watermarks(cluster: Cluster, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    async with cluster.reader("ebs-restore", isolation_level="read_uncommitted") as consumer:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return ends


async def _read_to(
    consumer: RecordReader,
    ends: dict[TopicPartition, int],
    targets: Mapping[TopicPartition, TableStore],
    wanted: Callable[[TopicPartition], bool],
    stall_timeout_s: float,
    *,
    progress: RestoreProgress,
    foreign: ForeignRecords,
) -> int:
    positions = dict.fromkeys(ends, -1)
    open_partitions = set(ends)
    starts: dict[TopicPartition, int] = {}
    progressed_at_s = time.monotonic()
    while True:
        for tp in list(open_partitions):
            position = await consumer.position(tp)
            starts.setdefault(tp, position)
            if position != positions[tp]:
                positions[tp] = position
                progressed_at_s = time.monotonic()
            if position >= ends[tp] or not wanted(tp):
                open_partitions.discard(tp)
                consumer.pause(tp)
        progress.total = sum(max(0, ends[tp] - start) for tp, start in starts.items())
        progress.done = sum(min(positions[tp], ends[tp]) - min(start, ends[tp]) for tp, start in starts.items())
        if not open_partitions:
            return progress.row_count
        if time.monotonic() - progressed_at_s > stall_timeout_s:
            refused = "".join(f"; {words}" for words in consumer.refusals.lasting().values())
            behind = ", ".join(f"{tp.topic}-{tp.partition} at {positions[tp]} of {ends[tp]}" for tp in open_partitions)
            forgotten = (
                ""
                if refused
                else "; perhaps a transaction is open there that Kafka has forgotten: `kafka-transactions.sh "
                "find-hanging` names it, and `abort` ends it"
            )
            raise RestoreFailed(f"no progress for {stall_timeout_s:g} s in restoring {behind}{refused or forgotten}")
        fetched = await consumer.getmany(*open_partitions, timeout_ms=_POLL_MS)
        for tp, records in fetched.items():
            if wanted(tp):
                rows = foreign.rows_of(tp, records, targets[tp].why_no_row)
                if NOTE_KEY in rows:
                    targets[tp].note = rows.pop(NOTE_KEY)
                targets[tp].write(rows)
                progress.row_count += len(records)
