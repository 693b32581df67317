"""Rows of the table `waiting`: the requests of tasks that cannot start now.

| key | what it is |
| --- | --- |
| b"t", due time, place, [line] | a timed row: a retry or a delayed task. The tasks of the line, if any, wait for it |
| b"l", line, place | a row in a line: its kind is paused or has a limit, or its key is busy |
| b"s" and one of the keys above | the attempt of that row has started, and runs for longer than a commit takes |

The due time is in epoch ms (8 bytes). The place is the offset of the task's request (8) and the attempt (4). A line is
a kind, and a key unless the whole kind waits: the lengths of both in UTF-8 (2 each), then both. All numbers are
big-endian. So the first timed row is due next, the first row of a line has the oldest request, and one attempt has one
row, however often its request is read. The value is the request as a record, in msgpack; for b"s" it is b"1".
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec

TIMED = b"t"
IN_LINE = b"l"
STARTED = b"s"
STARTED_VALUE = b"1"
REASONS = ("retry", "delay", "kind", "key")
"""Why rows wait: an attempt has failed; the object asks for a delay; the kind is paused or has a limit; other tasks of
the key run."""
TIMED_REASONS = frozenset({"retry", "delay"})
"""The reasons of timed rows. Only these can be started by a command."""
MAX_ERROR_CHARS = 300
"""A row keeps this much of the last error, for people."""
LAST_KEY = b"u"
"""Greater than the key of every row."""
_MAX_DUE_MS = (1 << 63) - 1
_DUE = struct.Struct(">cQ")
_PLACE = struct.Struct(">QI")
_TIMED_BYTES = _DUE.size + _PLACE.size
_LINE = struct.Struct(">HH")
_NO_ATTEMPT = bytes(4)
_FIRST_ATTEMPT = (1).to_bytes(4, "big")


class WaitingRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A request that waits: its record, without the place.

    `since_ms` is when it began to wait, `error` the error of the last attempt ("": there was none).
    """

    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    since_ms: int = 0
    error: str = ""


class WaitingKey(NamedTuple):
    """The attempt of a row: the offset of the task's request, and the number of the attempt.

    `due_at_ms` is None for a row in a line. `line` is b"" if no other task waits for a timed row.
    """

    due_at_ms: int | None
    offset: int
    attempt: int
    line: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(WaitingRow)
encode_row = _encoder.encode
decode_row = _decoder.decode
"""Raises `msgspec.DecodeError`."""


def timed_key(due_at_ms: int, offset: int, attempt: int, line: bytes = b"") -> bytes:
    """Return the key of a timed row."""
    return _DUE.pack(TIMED, min(max(0, due_at_ms), _MAX_DUE_MS)) + _PLACE.pack(offset, attempt) + line


def key_in_line(line: bytes, offset: int, attempt: int) -> bytes:
    """Return the key of a row in a line."""
    return IN_LINE + line + _PLACE.pack(offset, attempt)


def line_of(kind: str, key: str = "") -> bytes:
    """Return the line of a whole kind, or of one of its keys."""
    encoded_kind, encoded_key = kind.encode(), key.encode()
    return _LINE.pack(len(encoded_kind), len(encoded_key)) + encoded_kind + encoded_key


def kind_and_key(line: bytes) -> tuple[str, str]:
    """Return the kind of a line and its key, "" if the whole kind waits. More bytes after the line are ignored."""
    kind_bytes, key_bytes = _LINE.unpack_from(line)
    key_at = _LINE.size + kind_bytes
    return line[_LINE.size : key_at].decode(), line[key_at : key_at + key_bytes].decode()


def decode_key(key: bytes) -> WaitingKey:
    """Return the parts of a key."""
    if key[:1] == IN_LINE:
        offset, attempt = _PLACE.unpack_from(key, len(key) - _PLACE.size)
        return WaitingKey(None, offset, attempt, key[1 : -_PLACE.size])
    offset, attempt = _PLACE.unpack_from(key, _DUE.size)
    return WaitingKey(due_at_ms_of(key), offset, attempt, key[_TIMED_BYTES:])


def due_at_ms_of(key: bytes) -> int:
    """Return when a timed row is due."""
    return int.from_bytes(key[1 : _DUE.size], "big")


def is_key(key: bytes) -> bool:
    """Return whether this is the key of a timed row or of a row in a line."""
    return _has_form(key) and decode_key(key).attempt > 0


def is_row(key: bytes, value: bytes) -> bool:
    """Return whether this is a row of the table. Raises `msgspec.DecodeError` for a request that cannot be unpacked."""
    # With few calls: a restore checks a million rows.
    if len(key) == _TIMED_BYTES and key[:1] == TIMED:
        if key[-4:] == _NO_ATTEMPT:
            return False
        decode_row(value)
        return True
    if key[:1] == STARTED:
        return is_key(key[1:]) and value == STARTED_VALUE
    if not is_key(key):
        return False
    decode_row(value)
    return True


def reason_of(key: bytes) -> str:
    """Return why a row waits: one of `REASONS`."""
    if key[:1] == IN_LINE:
        return "key" if kind_and_key(key[1:])[1] else "kind"
    return "delay" if key[_TIMED_BYTES - 4 : _TIMED_BYTES] == _FIRST_ATTEMPT else "retry"


def pause_ms_of(key: bytes, value: bytes, now_ms: int) -> int | None:
    """Return for how long a retry was to wait if it began to wait after `now_ms`, so by a clock that has gone back.

    None for all other rows, and for those that cannot be read.
    """
    if key[:1] != TIMED or reason_of(key) != "retry":
        return None
    try:
        since_ms = decode_row(value).since_ms
    except msgspec.DecodeError:
        return None
    return max(0, due_at_ms_of(key) - since_ms) if since_ms > now_ms else None


def start_key(key: bytes) -> bytes:
    """Return the key of the row that says that the attempt of `key` has started."""
    return STARTED + key


def _has_form(key: bytes) -> bool:
    if key[:1] == TIMED:
        return len(key) >= _TIMED_BYTES and (len(key) == _TIMED_BYTES or _is_line(key[_TIMED_BYTES:]))
    return key[:1] == IN_LINE and len(key) > _PLACE.size and _is_line(key[1 : -_PLACE.size])


def _is_line(line: bytes) -> bool:
    if len(line) < _LINE.size or len(line) != _LINE.size + sum(_LINE.unpack_from(line)):
        return False
    try:
        kind_and_key(line)
    except UnicodeDecodeError:
        return False
    return True
