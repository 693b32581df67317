"""How many tasks wait in the table of a queue, as `ebs doctor` counts them before a former queue is deleted."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.kafka.types import TopicPartition
from app.names import BARE, PROCESSING, WAITING_TABLE
from app.rules.waiting_rows import STARTED_VALUE, key_in_line, line_of, start_key, timed_key
from app.streaming.offset_notes import NOTE_KEY
from ebs.doctor.changelogs import rows_waiting
from ebs.doctor.facts import TopicFacts

CHANGELOG = TopicPartition(BARE.changelog(PROCESSING, WAITING_TABLE, "gpu"), 0)


class Record(NamedTuple):
    """A record of the only partition, as a consumer hands it out."""

    offset: int
    key: bytes
    value: bytes | None
    partition: int = 0


class Log:
    """Stands for a consumer that reads one partition."""

    def __init__(self, *rows: tuple[bytes, bytes | None]) -> None:
        self._records = [Record(offset, *row) for offset, row in enumerate(rows)]

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Say where the log begins."""
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Say where the log ends."""
        return dict.fromkeys(partitions, len(self._records))

    def assign(self, _partitions: list[TopicPartition]) -> None:
        """Read all."""

    def seek(self, _tp: TopicPartition, _offset: int) -> None:
        """Begin at the beginning."""

    def pause(self, _tp: TopicPartition) -> None:
        """Read no more."""

    async def getmany(self, *_partitions: TopicPartition, timeout_ms: int) -> dict[TopicPartition, Any]:
        """Return all records."""
        assert timeout_ms
        return {CHANGELOG: self._records}

    async def position(self, _tp: TopicPartition) -> int:
        """Return the end."""
        return len(self._records)


async def test_every_row_that_waits_counts():
    """Whatever its task waits for: a row in a line is lost with the topic as a retry is."""
    delayed, started, gone = (timed_key(1_000, offset, 1) for offset in range(3))
    paused, of_key = key_in_line(line_of("mail"), 3, 1), key_in_line(line_of("mail", "ann"), 4, 1)
    rows = [(one, b"row") for one in (delayed, started, gone, paused, of_key)]
    log: Any = Log(*rows, (start_key(started), STARTED_VALUE), (gone, None), (NOTE_KEY, b"{}"))
    topics: Any = {CHANGELOG.topic: TopicFacts(CHANGELOG.topic, 1, 1, 1)}
    assert 4 == await rows_waiting(log, BARE, "gpu", topics)
