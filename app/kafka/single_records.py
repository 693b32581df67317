"""Unpacks a record batch one record at a time: slower than aiokafka, for damaged batches.

Each record begins with its length, so a fault in one record does not affect the next one.
Source: https://kafka.apache.org/documentation/#recordbatch
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from aiokafka.record.util import decode_varint_py as varint
from aiokafka.structs import ConsumerRecord

from app.errors import Unreadable
from app.kafka.unreadable import size_of, unreadable_bytes, unreadable_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiokafka import TopicPartition

_HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = _HEADER.size
_LOG_APPEND_TIME = 8
_VARINT_BYTES = 10
_RawHeaders = list[tuple[bytes, bytes | None]]


class _Batch(NamedTuple):
    tp: TopicPartition
    base_offset: int
    next_offset: int
    first_timestamp: int
    append_timestamp: int | None


def single_records(tp: TopicPartition, plain: bytes, from_offset: int, error: Unreadable) -> Iterator[ConsumerRecord]:
    """Yield the records from an offset on of a batch (magic 2, without compression), in place of aiokafka.

    `error`, why aiokafka could not, is what is said of bytes that are no record at all.
    """
    base, _, _, _, _, attributes, last_delta, first_ms, last_ms, _, _, _, count = _HEADER.unpack_from(plain)
    batch = _Batch(tp, base, base + last_delta + 1, first_ms, last_ms if attributes & _LOG_APPEND_TIME else None)
    at, next_offset = HEADER_BYTES, base
    for _ in range(count):
        try:
            length, skipped = varint(bytearray(plain[at : at + _VARINT_BYTES]))
        except (IndexError, ValueError):
            break
        begin = at + skipped
        if length <= 0 or begin + length > len(plain):
            break
        record = _record(batch, plain[begin : begin + length], next_offset)
        at, next_offset = begin + length, record.offset + 1
        if record.offset >= from_offset:
            yield record
    else:
        if at == len(plain):
            return
    next_offset = max(next_offset, from_offset)
    if next_offset < batch.next_offset:
        yield unreadable_bytes(tp, next_offset, batch.next_offset - 1, plain[at:], error)


def _record(batch: _Batch, body: bytes, expected_offset: int) -> ConsumerRecord:
    """Return one record, or what stands for it if its body does not add up."""
    buffer = bytearray(body)
    offset = expected_offset
    time = (batch.first_timestamp, 0) if batch.append_timestamp is None else (batch.append_timestamp, 1)
    try:
        timestamp_delta, at = varint(buffer, 1)
        if batch.append_timestamp is None:
            time = (batch.first_timestamp + timestamp_delta, 0)
        offset_delta, at = varint(buffer, at)
        offset = _offset(batch, offset_delta, expected_offset)
        key, at = _bytes(buffer, at)
        value, at = _bytes(buffer, at)
    except (IndexError, ValueError) as wrong:
        return unreadable_bytes(batch.tp, offset, offset, body, Unreadable(f"it does not add up: {wrong}"))
    try:
        raw_headers = _headers(buffer, at)
    except (IndexError, ValueError) as wrong:
        error = Unreadable(f"its headers do not add up: {wrong}")
        return unreadable_record(batch.tp, offset, time=time, key=key, raw=value, headers=(), error=error)
    headers = tuple((name.decode("utf-8", "backslashreplace"), text) for name, text in raw_headers)
    for (raw_name, _), (name, _) in zip(raw_headers, headers, strict=True):
        if raw_name != name.encode():
            error = Unreadable(f"the name of its header {name} is not UTF-8")
            return unreadable_record(batch.tp, offset, time=time, key=key, raw=value, headers=headers, error=error)
    return ConsumerRecord(*batch.tp, offset, *time, key, value, None, size_of(key), size_of(value), headers)


def _offset(batch: _Batch, delta: int, expected_offset: int) -> int:
    offset = batch.base_offset + delta
    if not expected_offset <= offset < batch.next_offset:
        raise ValueError(f"its offset would be {offset}")
    return offset


def _headers(buffer: bytearray, at: int) -> _RawHeaders:
    count, at = varint(buffer, at)
    if count < 0:
        raise ValueError(f"{count} of them")
    headers: _RawHeaders = []
    for _ in range(count):
        name, at = _bytes(buffer, at)
        text, at = _bytes(buffer, at)
        if name is None:
            raise ValueError("one has no name")
        headers.append((name, text))
    if at != len(buffer):
        raise ValueError(f"{len(buffer) - at} bytes follow after its end")
    return headers


def _bytes(buffer: bytearray, at: int) -> tuple[bytes | None, int]:
    length, at = varint(buffer, at)
    if length < 0:
        return None, at
    if at + length > len(buffer):
        raise ValueError(f"a part of {length} bytes is missing")
    return bytes(buffer[at : at + length]), at + length
