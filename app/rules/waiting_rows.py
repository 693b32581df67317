"""Rows of the table `waiting`: the requests of tasks whose time has not come.

Key: b"t", when the task is due (epoch ms, 8 bytes), the offset of its request (8), the attempt (4), all big-endian. So
the first key is due next, and one attempt has one row, however often its request is read. While an attempt runs for
longer than a commit takes, a second row says so: b"s" and the key of the first one.
Value: the request as a record, in msgpack; of the second row b"1".
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec

TIMED = b"t"
STARTED = b"s"
STARTED_VALUE = b"1"
REASONS = ("retry", "delay")
TIMED_REASONS = frozenset({"retry", "delay"})
"""What waits for its time alone. Only that can be started now."""
MAX_ERROR_CHARS = 300
"""A row keeps so much of the last error, for people."""
LAST_KEY = b"u"
"""No row that waits for its time has a greater key."""
_MAX_DUE_MS = (1 << 63) - 1
_KEY = struct.Struct(">cQQI")
_DUE_END = 9
_ATTEMPT_BYTES = 4
_NO_ATTEMPT = bytes(_ATTEMPT_BYTES)
_FIRST_ATTEMPT = (1).to_bytes(_ATTEMPT_BYTES, "big")


class WaitingRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A request that waits: the record that asks for the attempt, without its place.

    `since_ms` is when it began to wait, `error` what the last attempt failed with ("": it is the first one).
    """

    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    since_ms: int = 0
    error: str = ""


class WaitingKey(NamedTuple):
    """When an attempt is due (epoch ms), and which one it is: the offset of the task's request, and its number."""

    due_at_ms: int
    offset: int
    attempt: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(WaitingRow)
encode_row = _encoder.encode
decode_row = _decoder.decode
"""Raises `msgspec.DecodeError`."""


def encode_key(due_at_ms: int, offset: int, attempt: int) -> bytes:
    """Return the key of a row."""
    return _KEY.pack(TIMED, min(max(0, due_at_ms), _MAX_DUE_MS), offset, attempt)


def decode_key(key: bytes) -> WaitingKey:
    """Return what a key says."""
    return WaitingKey(*_KEY.unpack(key)[1:])


def due_at_ms_of(key: bytes) -> int:
    """Return when a row is due."""
    return int.from_bytes(key[1:_DUE_END], "big")


def is_key(key: bytes) -> bool:
    """Return whether this is the key of a row that waits."""
    return key[:1] == TIMED and len(key) == _KEY.size and key[-_ATTEMPT_BYTES:] != _NO_ATTEMPT


def is_row(key: bytes, value: bytes) -> bool:
    """Return whether this is a row of the table. Raises `msgspec.DecodeError` for a request that cannot be unpacked."""
    # Without calls: a restore asks this of a million rows.
    if key[:1] == TIMED:
        if len(key) != _KEY.size or key[-_ATTEMPT_BYTES:] == _NO_ATTEMPT:
            return False
        decode_row(value)
        return True
    return key[:1] == STARTED and is_key(key[1:]) and value == STARTED_VALUE


def reason_of(key: bytes) -> str:
    """Return why a row waits: "delay" before a first attempt, else "retry"."""
    return "delay" if key[-_ATTEMPT_BYTES:] == _FIRST_ATTEMPT else "retry"


def start_key(key: bytes) -> bytes:
    """Return the key of the row that says that the attempt of `key` has started."""
    return STARTED + key
