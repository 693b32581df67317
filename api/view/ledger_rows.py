"""Ledger rows as the view reads them by the thousand: all but their tasks' results and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

if TYPE_CHECKING:
    from app.rules.ledger import ObjectRow


class _ShortTask(msgspec.Struct, array_like=True, gc=False):
    """The first fields of `app.rules.ledger.TaskRow`; msgspec passes over the rest."""

    marks: int = 0
    started: int = 0
    failed: int = 0
    retried: int = 0
    created_at_ms: int = 0
    started_at_ms: int = 0
    ended_at_ms: int = 0
    wait_ms: int = 0
    spent_ms: int = 0


class _ShortRow(msgspec.Struct, array_like=True, gc=False):
    """The fields of `app.rules.ledger.ObjectRow`, tasks cut short."""

    kind: str = ""
    task_count: int = 0
    created_at_ms: int = 0
    finished_at_ms: int = 0
    finished_count: int = 0
    tasks: list[_ShortTask] = msgspec.field(default_factory=list)


_decode: Any = msgspec.msgpack.Decoder(_ShortRow).decode


def decode_short_row(data: bytes) -> ObjectRow:
    """Decode a row without its tasks' results and errors, which may be large; good for what needs neither."""
    return cast("ObjectRow", _decode(data))
