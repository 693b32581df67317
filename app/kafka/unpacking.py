"""Unpacks fetched records one by one, so that a damaged record does not affect other records.

aiokafka unpacks while a reader takes records, and an error there ends the reader, again after each start: one record
with a header that is not UTF-8 stops all readers of the topic. Its C code also crashes the process at a batch that is
too short. Here each batch is checked before that code gets it, and a damaged record becomes an `UnreadableRecord`,
which has the position, the reason, and the bytes if there are any:

| fault | lost | reading continues |
| --- | --- | --- |
| a wrong CRC, an unknown magic or codec, damaged or oversized compressed data | the batch | after it |
| one damaged record in a valid batch, such as a header name that is not UTF-8 | the record | at the next record |
| a length that points nowhere | one offset | at the next offset |

After a lost batch, the rest of the fetch is dropped and fetched again: the lost batch may have been the end of an
aborted transaction, and only the broker knows which other records are aborted.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.structs import ConsumerRecord

from app.errors import Unreadable
from app.kafka.codecs import MAX_UNPACKED_BYTES, decompress
from app.kafka.leader_epochs import NO_EPOCH
from app.kafka.single_records import HEADER_BYTES, single_records
from app.kafka.unreadable import NO_TIMESTAMP, unreadable_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aiokafka import TopicPartition

_PREFIX = struct.Struct(">qiib")
"""Base offset, length, leader epoch (or CRC), magic: at the same place in all formats."""
_LENGTH_END = 12
"""A batch's length counts from here on."""
_MAGIC = 2
_CODEC_MASK = 7
_CODEC_AT = 22
_LEGACY_CODEC_AT = 17
_LEGACY_KEY_AT = (18, 26)
"""Of magic 0 and 1: magic 1 has a timestamp."""
_LEGACY_LENGTHS_BYTES = 8
_COUNTS = struct.Struct(">23xi30xi")
"""Where a batch says twice how many offsets it has: the last one's delta, and the count of records."""


class Fetched:
    """The bytes that a fetch brought of a partition; stands in for aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes | None) -> None:
        self.data = data or b""

    def has_next(self) -> bool:
        """Return whether there is anything to unpack."""
        return bool(self.data)

    def size_in_bytes(self) -> int:
        """Return how much there is."""
        return len(self.data)


class Unpacking:
    """The records of one fetch of a partition, in order; stands in for aiokafka's `PartitionRecords`.

    `next_fetch_offset` is where to go on behind what was taken. It may end before the bytes do: what is left is
    fetched again from there. So no more is unpacked at a time than `MAX_UNPACKED_BYTES` and one batch.
    `first_epoch` and `leader_epoch` are the leader epochs of the first batch and of the one that was taken last;
    `NO_EPOCH` where there is none.
    """

    def __init__(  # noqa: PLR0917  # aiokafka's signature
        self,
        tp: TopicPartition,
        fetched: Fetched,
        aborted_transactions: Sequence[tuple[int, int]] | None,
        fetch_offset: int,
        _key_deserializer: object,
        _value_deserializer: object,
        check_crcs: bool,  # noqa: FBT001  # aiokafka's signature
        isolation_level: int,
    ) -> None:
        self.next_fetch_offset = fetch_offset
        self.first_epoch = _first_epoch(fetched.data)
        self.leader_epoch = NO_EPOCH
        self._tp = tp
        self._check_crcs = check_crcs
        self._read_committed = isolation_level == READ_COMMITTED
        self._aborted = deque(sorted(aborted_transactions or (), key=lambda one: one[1]))
        self._aborted_producers: set[int] = set()
        self._records = self._unpack(fetched.data)

    def __iter__(self) -> Iterator[ConsumerRecord]:
        return self._records

    def __next__(self) -> ConsumerRecord:
        return next(self._records)

    def _unpack(self, data: bytes) -> Iterator[ConsumerRecord]:
        topic, partition = self._tp
        begin, unpacked_bytes = self.next_fetch_offset, 0
        trouble = Unreadable("the length of its batch is wrong")
        for base_offset, epoch, magic, at, end in _batches(data):
            if unpacked_bytes >= MAX_UNPACKED_BYTES:
                return
            self.leader_epoch = epoch
            plain = None
            try:
                batch, records, plain = self._open(data[at:end], magic, base_offset)
                next_offset, behind = 0, batch.next_offset
                for record in records:
                    offset = record.offset
                    if not next_offset <= offset < behind:
                        raise ValueError(f"offset {offset} follows {next_offset - 1}")  # noqa: TRY301  # a call costs 2 %
                    next_offset = offset + 1
                    # Below what was asked for: the batch began earlier.
                    if offset >= self.next_fetch_offset:
                        self.next_fetch_offset = next_offset
                        key, value, timestamp = record.key, record.value, record.timestamp
                        yield ConsumerRecord(
                            topic,
                            partition,
                            offset,
                            NO_TIMESTAMP if timestamp is None else timestamp,
                            record.timestamp_type,
                            key,
                            value,
                            record.checksum,
                            -1 if key is None else len(key),
                            -1 if value is None else len(value),
                            tuple(record.headers),
                        )
            except Exception as error:  # noqa: BLE001  # whatever the bytes make our code or aiokafka's do
                trouble = _explained(error)
                if plain is None:
                    last_offset = self._last_offset(data, at, end)
                    if last_offset >= self.next_fetch_offset:
                        yield self._unreadable(last_offset, data[at:end], trouble)
                        return
                    continue
                yield from self._isolated(batch, plain, magic, trouble)
            unpacked_bytes += len(plain)
            # An offset behind the last record may have been compacted away.
            self.next_fetch_offset = max(self.next_fetch_offset, behind)
        if self.next_fetch_offset == begin and data:
            # A broker hands out at least one whole batch (KIP-74), so there is one: reading must not stand still.
            yield self._unreadable(begin, data, trouble)

    def _open(self, packed: bytes, magic: int, base_offset: int) -> tuple[Any, Any, bytes]:
        """Return a batch, the records that it has for us, and its bytes without compression.

        They are copies: over a `memoryview` aiokafka's C code crashed the process when garbage was collected (seen with
        hypothesis, aiokafka 0.14.0).
        """
        if 0 <= magic < _MAGIC:
            batch = _open_legacy(packed, magic, check_crc=self._check_crcs)
            return batch, batch, packed
        if magic != _MAGIC:
            raise Unreadable(f"its message format, magic {magic}, is not known")
        if len(packed) < HEADER_BYTES:
            raise Unreadable(f"its batch has {len(packed)} bytes, less than a header")
        batch = DefaultRecordBatch(packed)
        if self._check_crcs and not batch.validate_crc():
            raise Unreadable("the checksum (CRC) of its batch is wrong")
        if self._read_committed and self._is_aborted(batch, base_offset):
            return batch, (), b""
        if batch.is_control_batch:
            return batch, (), b""
        codec = packed[_CODEC_AT] & _CODEC_MASK
        if codec == 0:
            return batch, batch, packed
        header = bytearray(packed[:HEADER_BYTES])
        header[_CODEC_AT] &= ~_CODEC_MASK
        plain = b"".join((header, decompress(codec, memoryview(packed)[HEADER_BYTES:])))
        batch = DefaultRecordBatch(plain)
        return batch, batch, plain

    def _is_aborted(self, batch: Any, base_offset: int) -> bool:
        while self._aborted and self._aborted[0][1] <= base_offset:
            self._aborted_producers.add(self._aborted.popleft()[0])
        producer_id = batch.producer_id
        if producer_id not in self._aborted_producers:
            return False
        if batch.is_control_batch and ControlRecord.parse(next(iter(batch)).key) == ABORT_MARKER:
            self._aborted_producers.discard(producer_id)
        return bool(batch.is_transactional)

    def _isolated(self, batch: Any, plain: bytes, magic: int, error: Unreadable) -> Iterator[ConsumerRecord]:
        """Yield the rest of a batch in which something cannot be unpacked."""
        if magic < _MAGIC:
            # One message, or one that others are compressed in: there is nothing smaller.
            yield self._unreadable(max(self.next_fetch_offset, batch.next_offset - 1), plain, error)
            return
        for record in single_records(self._tp, plain, self.next_fetch_offset, error):
            self.next_fetch_offset = getattr(record, "last_offset", record.offset) + 1
            yield record

    def _last_offset(self, data: bytes, at: int, end: int) -> int:
        """Return the last offset of a batch that is lost, as far as it can be known."""
        if len(data) - end >= _PREFIX.size:
            following: int = _PREFIX.unpack_from(data, end)[0]
            return following - 1
        if end - at >= HEADER_BYTES:
            base_offset: int = _PREFIX.unpack_from(data, at)[0]
            last_delta: int
            count: int
            last_delta, count = _COUNTS.unpack_from(data, at)
            # It says so twice: damage would hardly do the same to both.
            if 0 < count == last_delta + 1:
                return base_offset + count - 1
        return self.next_fetch_offset

    def _unreadable(self, last_offset: int, data: bytes, error: Unreadable) -> ConsumerRecord:
        offset, self.next_fetch_offset = self.next_fetch_offset, last_offset + 1
        return unreadable_bytes(self._tp, offset, last_offset, data, error)


def _first_epoch(data: bytes) -> int:
    """Return the leader epoch of the first batch."""
    _, epoch, *_ = next(_batches(data), (0, NO_EPOCH))
    return epoch


def _batches(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield of each whole batch its base offset, leader epoch, magic, begin and end."""
    at, size = 0, len(data)
    while size - at >= _PREFIX.size:
        base_offset, length, epoch, magic = _PREFIX.unpack_from(data, at)
        end = at + _LENGTH_END + length
        if not at + _PREFIX.size <= end <= size:
            return
        yield base_offset, epoch if magic == _MAGIC else NO_EPOCH, magic, at, end
        at = end


def _open_legacy(packed: bytes, magic: int, *, check_crc: bool) -> Any:
    """Open a message of the formats before Kafka 0.11, which may hold others in compressed form."""
    key_at = _LEGACY_KEY_AT[magic]
    if len(packed) < key_at + _LEGACY_LENGTHS_BYTES:
        raise Unreadable(f"its message has {len(packed)} bytes, less than a header")
    batch = LegacyRecordBatch(packed, magic)
    if check_crc and not batch.validate_crc():
        raise Unreadable("the checksum (CRC) of its message is wrong")
    codec = packed[_LEGACY_CODEC_AT] & _CODEC_MASK
    if codec:
        # aiokafka does it again, once this has seen that it can be done and how much comes out.
        key_length = max(0, *struct.unpack_from(">i", packed, key_at))
        decompress(codec, memoryview(packed)[key_at + _LEGACY_LENGTHS_BYTES + key_length :])
    return batch


def _explained(error: Exception) -> Unreadable:
    if isinstance(error, Unreadable):
        return error
    return Unreadable(f"it cannot be unpacked: {type(error).__name__}: {error}")
