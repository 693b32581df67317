"""What the doctor finds in the changelogs of a role; long ones are left to a worker's restore."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from app.kafka.errors import KafkaError
from app.names import PROCESSING, WAITING_TABLE
from app.rules.waiting_rows import IN_LINE, TIMED
from app.streaming.offset_notes import NOTE_KEY, decode_notes
from app.topics.catalogue import NOTES_TABLES, TABLES
from ebs.doctor.changelog_repair import find_foreign
from ebs.doctor.log_stretches import read_stretches, whole_log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.kafka.reading import RecordReader
    from app.kafka.types import TopicPartition
    from app.names import Names, WorkerGroup
    from ebs.doctor.facts import TopicFacts

_READ_S = 5.0
_LONG_CHANGELOG = 100_000
"""Records that are read in about a second."""


async def foreign_in_changelogs(
    consumer: RecordReader, names: Names, group: WorkerGroup, topics: Mapping[str, TopicFacts]
) -> list[str]:
    """Return the places of records in the changelogs of a role's group that are no rows."""
    found: list[str] = []
    for table in TABLES[group.role]:
        logs = await _logs_of(consumer, topics.get(names.changelog(group.role, table, group.queue)))
        try:
            async with asyncio.timeout(_READ_S):
                foreign = await find_foreign(consumer, group.role, table, logs)
        except (KafkaError, TimeoutError):
            continue  # we may not read it, or the broker cannot
        found += [f"{tp.topic}-{tp.partition}@{offset}" for (tp, _), offset in foreign.items()]
    return sorted(found)


async def worked_topic_ids(
    consumer: RecordReader, names: Names, group: WorkerGroup, topics: Mapping[str, TopicFacts]
) -> dict[tuple[str, int], str]:
    """Return by topic and partition the id of the topic that a role's group has worked, as its table notes it."""
    logs = await _logs_of(consumer, topics.get(names.changelog(group.role, NOTES_TABLES[group.role], group.queue)))
    found: dict[tuple[str, int], str] = {}
    try:
        async with asyncio.timeout(_READ_S):
            async for record in read_stretches(consumer, logs):
                if record.key == NOTE_KEY:
                    notes = decode_notes(record.value)
                    found |= {(topic, record.partition): note.topic_id for topic, note in notes.items()}
    except (KafkaError, TimeoutError, msgspec.DecodeError):
        return {}  # as above, or another program has written there
    return found


async def rows_waiting(
    consumer: RecordReader, names: Names, queue: str, topics: Mapping[str, TopicFacts]
) -> int | None:
    """Return how many tasks wait in the table of a queue; None: it cannot be known in a moment."""
    topic = topics.get(names.changelog(PROCESSING, WAITING_TABLE, queue))
    logs = await _logs_of(consumer, topic)
    if topic is not None and not logs:
        return None
    rows: set[tuple[int, bytes]] = set()
    try:
        async with asyncio.timeout(_READ_S):
            async for record in read_stretches(consumer, logs):
                if record.key is not None and record.key.startswith((TIMED, IN_LINE)):
                    (rows.discard if record.value is None else rows.add)((record.partition, record.key))
    except (KafkaError, TimeoutError):
        return None
    return len(rows)


async def _logs_of(consumer: RecordReader, topic: TopicFacts | None) -> dict[TopicPartition, range]:
    """Return the stretches of a changelog; none of one that is missing or long."""
    if topic is None:
        return {}
    logs = await whole_log(consumer, topic.name, topic.partition_count)
    return logs if sum(map(len, logs.values())) <= _LONG_CHANGELOG else {}
