"""Placeholders for records that could not be unpacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka.structs import ConsumerRecord

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from app.errors import Unreadable

NO_TIMESTAMP = -1
CREATE_TIME = 0

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass
class UnreadableRecord(ConsumerRecord):
    """Stands for the offsets from `offset` to `last_offset`; it never has a value, so nobody takes it for a record.

    `raw` are the bytes that there are. If `is_record`, they are one record's value (key and headers are its own too,
    names of headers as far as they are text), else a piece of the log.
    """

    error: Unreadable
    last_offset: int
    raw: bytes | None
    is_record: bool


def unreadable_record(
    tp: TopicPartition,
    offset: int,
    *,
    time: tuple[int, int],
    key: bytes | None,
    raw: bytes | None,
    headers: Headers,
    error: Unreadable,
) -> UnreadableRecord:
    """Return what stands for one record whose key and value could be had."""
    return UnreadableRecord(
        *tp, offset, *time, key, None, None, size_of(key), size_of(raw), headers, error, offset, raw, is_record=True
    )


def unreadable_bytes(
    tp: TopicPartition, offset: int, last_offset: int, raw: bytes, error: Unreadable
) -> UnreadableRecord:
    """Return what stands for a piece of the log."""
    return UnreadableRecord(
        *tp, offset, NO_TIMESTAMP, CREATE_TIME, None, None, None, -1, len(raw), (), error, last_offset, raw,
        is_record=False,
    )  # fmt: skip


def size_of(data: bytes | None) -> int:
    """Return a length as Kafka writes it: -1 for what is null."""
    return -1 if data is None else len(data)
