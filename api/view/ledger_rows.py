"""Ledger rows as the view reads them by the thousand: all but their tasks' results and errors."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from app.rules.ledger import ObjectRow, TaskFigures


class _ShortRow(ObjectRow, array_like=True, gc=False):
    """An object's row, its tasks cut short: msgspec passes over what they have besides."""

    tasks: list[TaskFigures] = msgspec.field(default_factory=list)  # type: ignore[assignment]  # a part of each


_decode: Any = msgspec.msgpack.Decoder(_ShortRow).decode


def decode_short_row(data: bytes) -> ObjectRow:
    """Decode a row without its tasks' results and errors, which may be large; good for what needs neither."""
    return cast("ObjectRow", _decode(data))
