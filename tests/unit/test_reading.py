"""`RecordReader`: what its readers see of what cannot be unpacked, which is nothing unless they ask for it."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition
from fakes import record, unreadable

from app.kafka.reading import RecordReader

A, B = TopicPartition("objects", 0), TopicPartition("dead-letters", 1)


class FakeFetcher:
    """Hands out what a test gave it."""

    def __init__(self, *records: Any) -> None:
        self.records = list(records)

    async def fetched_records(self, _partitions: Any, _timeout: float, max_records: int | None = None) -> Any:
        """Return all by partition."""
        fetched: dict[TopicPartition, list[Any]] = {}
        for one in self.records[:max_records]:
            fetched.setdefault(TopicPartition(one.topic, one.partition), []).append(one)
        return fetched

    async def next_record(self, _partitions: Any) -> Any:
        """Return the next one."""
        return self.records.pop(0)


class NoTrouble:
    """A coordinator and a subscription that have nothing to say."""

    def check_errors(self) -> None:
        """Raise nothing."""

    def fetch_context(self) -> NoTrouble:
        """Return what is entered while records are taken."""
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        pass


def reader_of(*records: Any, **options: Any) -> RecordReader:
    """Return a reader that has fetched these."""
    reader: Any = RecordReader(**options)
    reader._fetcher, reader._coordinator, reader._subscription = FakeFetcher(*records), NoTrouble(), NoTrouble()
    return reader


@pytest.fixture
def given() -> list[Any]:
    """Return records of two topics with what cannot be unpacked between them."""
    return [
        unreadable(*A, 0, b"log", "a wrong CRC"),
        record(*A, 3, b"a"),
        unreadable(*A, 4, b"log", "a wrong CRC", last_offset=9),
        record(*A, 10, b"b"),
        unreadable(*B, 5, b"log", "unknown codec"),
    ]


async def test_readers_never_see_what_cannot_be_unpacked(given, caplog):
    """Partitions of which nothing is left are left out, as those of which nothing came; the log says what lay where."""
    reader: Any = reader_of(*given)
    read = await reader.getmany()
    assert {A: [3, 10]} == {tp: [one.offset for one in records] for tp, records in read.items()}
    assert ["objects-0@0", "dead-letters-1@5"] == [message.split()[0] for message in caplog.messages]
    assert [3, 10] == [(await reader.getone()).offset for _ in range(2)]
    reader._closed = True


async def test_reader_that_asks_for_it_has_all_of_a_topic(given):
    """Of others it sees the records only."""
    reader: Any = reader_of(*given, whole=["dead-letters"])
    read = await reader.getmany()
    assert {A: [3, 10], B: [5]} == {tp: [one.offset for one in records] for tp, records in read.items()}
    assert [3, 10, 5] == [(await reader.getone()).offset for _ in range(3)]
    reader._closed = True
