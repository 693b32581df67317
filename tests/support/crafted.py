"""Record batches as bytes, sound ones and others: what no producer of ours would write."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c_py, encode_varint_py

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER = struct.Struct(">qiibIhiqqqhii")
MAGIC_AT, CRC_AT, ATTRIBUTES_AT, LAST_DELTA_AT, COUNT_AT = 16, 17, 21, 23, 57
TRANSACTIONAL = 0x10
CONTROL = 0x20
WRITTEN_MS = time.time_ns() // 1_000_000
"""Stamps of long ago would let a broker delete what nobody has read yet."""


def varint(number: int) -> bytes:
    """Return a number as Kafka writes it."""
    out = bytearray()
    encode_varint_py(number, out.append)
    return bytes(out)


def sized(data: bytes | None) -> bytes:
    """Return bytes behind their length."""
    return varint(-1) if data is None else varint(len(data)) + data


def body(
    delta: int,
    value: bytes | None = b"value",
    *,
    key: bytes | None = b"key",
    headers: Sequence[tuple[bytes, bytes | None]] = (),
) -> bytes:
    """Return a record without its length."""
    named = b"".join(sized(name) + sized(text) for name, text in headers)
    return b"\0" + varint(0) + varint(delta) + sized(key) + sized(value) + varint(len(headers)) + named


def batch(
    base_offset: int,
    records: bytes | Sequence[bytes],
    *,
    count: int | None = None,
    attributes: int = 0,
    producer_id: int = -1,
) -> bytes:
    """Return a batch with a right checksum around records without their length, or around any bytes and a count."""
    if isinstance(records, bytes):
        assert count is not None
        inner = records
    else:
        inner = b"".join(sized(record) for record in records)
        count = len(records) if count is None else count
    head = (
        base_offset,
        len(inner) + _HEADER.size - 12,
        0,
        2,
        0,
        attributes,
        count - 1,
        WRITTEN_MS,
        WRITTEN_MS,
        producer_id,
        0,
        0,
    )
    return summed(_HEADER.pack(*head, count) + inner)


def values(base_offset: int, *given: bytes, codec: int = 0, headers: Any = ()) -> bytes:
    """Return a batch with these values, as aiokafka writes it."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for delta, value in enumerate(given):
        builder.append(delta, WRITTEN_MS + delta, b"key", value, list(headers))
    return base_offset.to_bytes(8, "big") + bytes(builder.build())[8:]


def marker(base_offset: int, producer_id: int, *, aborts: bool) -> bytes:
    """Return the control batch that ends a transaction."""
    key = struct.pack(">hh", 0, 0 if aborts else 1)
    record = body(0, b"\0\0\0\0\0\0", key=key)
    return batch(base_offset, [record], attributes=TRANSACTIONAL | CONTROL, producer_id=producer_id)


def summed(data: bytes) -> bytes:
    """Return a batch with its checksum put right."""
    crc = calc_crc32c_py(data[ATTRIBUTES_AT:])
    return data[:CRC_AT] + crc.to_bytes(4, "big") + data[ATTRIBUTES_AT:]


def changed(data: bytes, at: int, new: bytes) -> bytes:
    """Return bytes with some replaced."""
    return data[:at] + new + data[at + len(new) :]
