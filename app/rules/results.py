"""What tasks returned and why they failed: a row of its own for each task that has a result or an error.

They are kept apart from the ledger's row, which is read and written with every event of its object and would otherwise
grow with what users return. Tasks that return nothing and do not fail have no row here.

A row has at most `MAX_RESULT_BYTES` and four bytes for each of `MAX_ERROR_CHARS`, about 1.1 MiB: a changelog's record
may have 2 MiB (`app.topics.catalogue`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.events import OneTaskEvent

MAX_ERROR_CHARS = 20_000
"""Of an error in a row; workers write less than that (`app.rules.dead_letters.MAX_MESSAGE_CHARS`)."""

_ID_LENGTH_BYTES = 2
_SEQUENCE_BYTES = 4


class ResultRow(msgspec.Struct, array_like=True, gc=False):
    """A task's JSON result (empty: none) and its last error."""

    result: bytes = b""
    error: str = ""


NO_RESULT = ResultRow()
"""Of a task that has neither; do not change it."""

encode_result_row = msgspec.msgpack.Encoder().encode
"""Pack a `ResultRow` for a table."""
decode_result_row = msgspec.msgpack.Decoder(ResultRow).decode
"""Undo `encode_result_row`."""


def results_prefix(object_id: bytes) -> bytes:
    """Return how the keys of an object's rows begin; the length in front keeps other objects' keys out of them."""
    return len(object_id).to_bytes(_ID_LENGTH_BYTES, "big") + object_id


def result_key(object_id: bytes, sequence: int) -> bytes:
    """Return a row's key: the rows of an object lie together, in the order of its tasks."""
    return results_prefix(object_id) + sequence.to_bytes(_SEQUENCE_BYTES, "big")


def unpack_result_key(key: bytes) -> tuple[bytes, int]:
    """Return the object's id and the task's sequence."""
    return key[_ID_LENGTH_BYTES:-_SEQUENCE_BYTES], int.from_bytes(key[-_SEQUENCE_BYTES:], "big")


class Results:
    """The rows that a step changes; `get` reads those that were there before it."""

    __slots__ = ("_get", "_rows")

    def __init__(self, get: Callable[[bytes], bytes | None]) -> None:
        self._get = get
        self._rows: dict[bytes, ResultRow] = {}

    def of(self, event: OneTaskEvent, *, has_row: bool) -> ResultRow:
        """Return the row of an event's task, to be changed; `has_row` says whether one was made before."""
        key = result_key(event.object_id.encode(), event.sequence)
        row = self._rows.get(key)
        if row is None:
            stored = self._get(key) if has_row else None
            row = self._rows[key] = decode_result_row(stored) if stored else ResultRow()
        return row

    def read(self, object_id: bytes, sequence: int) -> ResultRow:
        """Return the row of a task as this step leaves it; do not change it."""
        key = result_key(object_id, sequence)
        row = self._rows.get(key)
        if row is not None:
            return row
        stored = self._get(key)
        return decode_result_row(stored) if stored else NO_RESULT

    def result_of(self, object_id: str, sequence: int) -> bytes:
        """Return what a task has returned, as JSON."""
        return self.read(object_id.encode(), sequence).result or b"null"

    def changed(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and packed rows."""
        for key, row in self._rows.items():
            yield key, encode_result_row(row)
