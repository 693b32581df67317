"""One partition's log: records of transactions and of nobody's, markers, and what readers may see of it.

Source: the transactional log of Kafka (KIP-98): a record of an open transaction, and all behind it, is hidden from
readers of committed records; a marker takes an offset and decides all records of its producer before it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum

from aiokafka.structs import ConsumerRecord

OUT_OF_ORDER_SEQUENCE = 45
INVALID_PRODUCER_EPOCH = 47
_REMEMBERED_BATCHES = 5


class State(Enum):
    """What is decided of a record."""

    OPEN = 1
    COMMITTED = 2
    ABORTED = 3
    MARKER = 4


@dataclass(slots=True)
class Entry:
    """What lies at one offset."""

    record: ConsumerRecord | None
    state: State


@dataclass(slots=True)
class ProducerState:
    """What the partition knows of a producer id."""

    epoch: int
    next_sequence: int = 0
    batches: list[tuple[int, int, int]] = field(default_factory=list)
    """First sequence, record count and first offset of the last batches, by which repetitions are known."""
    open_from: int | None = None
    open_offsets: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """A record batch as a producer sends it; `producer_id` -1 is nobody's."""

    records: tuple[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...], int], ...]
    producer_id: int = -1
    epoch: int = -1
    first_sequence: int = -1


class Log:
    """The records of one partition, from offset 0 on; `is_stamped`: the broker's clock stamps them (LogAppendTime)."""

    def __init__(self, topic: str, partition: int, *, is_stamped: bool = False) -> None:
        self.topic = topic
        self.partition = partition
        self.entries: list[Entry] = []
        self._is_stamped = is_stamped
        self._producers: dict[int, ProducerState] = {}

    @property
    def end(self) -> int:
        """The next offset (high watermark; there is one replica)."""
        return len(self.entries)

    @property
    def stable_end(self) -> int:
        """Up to where readers of committed records may read (last stable offset)."""
        return min((one.open_from for one in self._producers.values() if one.open_from is not None), default=self.end)

    def append(self, batch: Batch) -> tuple[int, int]:
        """Append a batch; returns an error code, or 0 and its first offset. A repetition gets the offset it had."""
        if batch.producer_id < 0:
            return 0, self._write(batch, State.COMMITTED)
        producer = self._producers.get(batch.producer_id)
        if producer is None:
            producer = self._producers[batch.producer_id] = ProducerState(batch.epoch)
        if batch.epoch < producer.epoch:
            return INVALID_PRODUCER_EPOCH, -1
        if batch.epoch > producer.epoch:
            producer.epoch, producer.next_sequence = batch.epoch, 0
            producer.batches.clear()
        for sequence, count, offset in producer.batches:
            if (sequence, count) == (batch.first_sequence, len(batch.records)):
                return 0, offset
        if batch.first_sequence != producer.next_sequence:
            return OUT_OF_ORDER_SEQUENCE, -1
        offset = self._write(batch, State.OPEN)
        producer.next_sequence += len(batch.records)
        producer.batches = [
            *producer.batches[1 - _REMEMBERED_BATCHES :],
            (batch.first_sequence, len(batch.records), offset),
        ]
        producer.open_from = offset if producer.open_from is None else producer.open_from
        producer.open_offsets += range(offset, self.end)
        return 0, offset

    def decide(self, producer_id: int, epoch: int, *, is_commit: bool) -> None:
        """Write a transaction's marker."""
        producer = self._producers.setdefault(producer_id, ProducerState(epoch))
        state = State.COMMITTED if is_commit else State.ABORTED
        for offset in producer.open_offsets:
            self.entries[offset].state = state
        producer.open_offsets.clear()
        producer.open_from = None
        if epoch > producer.epoch:
            producer.epoch, producer.next_sequence = epoch, 0
            producer.batches.clear()
        self.entries.append(Entry(None, State.MARKER))

    def read(self, start: int, max_records: int) -> tuple[list[ConsumerRecord], int]:
        """Return committed records from an offset on, and where to go on."""
        records: list[ConsumerRecord] = []
        at, stable_end = start, self.stable_end
        while at < stable_end and len(records) < max_records:
            entry = self.entries[at]
            if entry.state is State.COMMITTED and entry.record is not None:
                records.append(entry.record)
            at += 1
        return records, at

    def committed(self) -> list[ConsumerRecord]:
        """Return all committed records."""
        return [one.record for one in self.entries if one.state is State.COMMITTED and one.record is not None]

    def _write(self, batch: Batch, state: State) -> int:
        first = self.end
        broker_ms = time.time_ns() // 1_000_000
        for number, (key, value, headers, timestamp_ms) in enumerate(batch.records):
            stamp = (broker_ms, 1) if self._is_stamped else (timestamp_ms, 0)
            record = ConsumerRecord(
                self.topic, self.partition, first + number, *stamp, key, value, None,
                -1 if key is None else len(key), -1 if value is None else len(value), headers,
            )  # fmt: skip
            self.entries.append(Entry(record, state))
        return first
