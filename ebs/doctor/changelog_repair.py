"""Putting back the rows of a role's tables that records of another program have replaced (`ebs offsets reset`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.kafka.types import TopicPartition
from app.rules.table_rows import why_no_row
from app.streaming.foreign_rows import row_check
from app.topics.catalogue import NOTES_TABLES, TABLES
from ebs.doctor.log_stretches import read_stretches, whole_log, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from app.kafka.cluster import Cluster
    from app.names import Names, WorkerGroup
    from app.streaming.foreign_rows import WhyNoRow


async def put_rows_back(
    cluster: Cluster, consumer: Any, admin: Any, names: Names, group: WorkerGroup, *, say: Callable[[str], None]
) -> None:
    """Write again, behind each record that is no row of its table, the row that it has replaced, or a tombstone.

    The role has no workers meanwhile. Says what is put back.
    """
    for table in TABLES[group.role]:
        topic = names.changelog(group.role, table, group.queue)
        check = _check_of(group.role, table)
        (described,) = await admin.describe_topics([topic])
        logs = await whole_log(consumer, topic, len(described["partitions"]))
        foreign = await find_foreign(consumer, group.role, table, logs)
        if not foreign:
            continue
        replaced: dict[tuple[TopicPartition, bytes], bytes | None] = dict.fromkeys(foreign)
        async for record in read_stretches(consumer, {tp: logs[tp] for tp, _ in foreign}):
            place = TopicPartition(topic, record.partition), record.key
            if place in replaced and not check(record.key, record.value):
                replaced[place] = record.value
        await write_rows(cluster, replaced)
        for (tp, key), row in replaced.items():
            what = "a tombstone: no row of this key is left" if row is None else "the row that was there before"
            say(f"{topic}-{tp.partition}@{foreign[tp, key]} is no row: its key has {what}")


async def find_foreign(
    consumer: Any, role: str, table: str, logs: Mapping[TopicPartition, range]
) -> dict[tuple[TopicPartition, bytes], int]:
    """Return the keys whose last record in a changelog is no row of its table, each with the offset of that record."""
    check = _check_of(role, table)
    foreign: dict[tuple[TopicPartition, bytes], int] = {}
    async for record in read_stretches(consumer, logs):
        place = TopicPartition(record.topic, record.partition), record.key
        if record.key is not None and check(record.key, record.value):
            foreign[place] = record.offset
        else:
            foreign.pop(place, None)
    return foreign


def _check_of(role: str, table: str) -> WhyNoRow:
    return row_check(table, why_no_row, keeps_offsets=table == NOTES_TABLES[role])
