"""Requests that are due later, and their rows in the table `waiting`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from engine_bench import NOW_MS, request

from app.events import decode_task_request, encode
from app.names import WAITING_TABLE
from app.rules.waiting_rows import WaitingRow, encode_row, timed_key

if TYPE_CHECKING:
    from engine_bench import Bench
    from fake_steps import FakeStore


def due(name: str, in_ms: int, *, attempt: int = 1, **changes: Any) -> bytes:
    """Return a request that is due in some milliseconds."""
    task = decode_task_request(request(name, attempt=attempt))
    return encode(msgspec.structs.replace(task, due_at_ms=NOW_MS + in_ms, **changes))


def row(name: str, in_ms: int, offset: int, attempt: int = 1) -> tuple[bytes, bytes]:
    """Return the row of a request."""
    value = due(name, in_ms, attempt=attempt)
    return timed_key(NOW_MS + in_ms, offset, attempt), encode_row(WaitingRow(NOW_MS, name.encode(), value, []))


def own(one: Bench, store: FakeStore, **more: Any) -> None:
    """Let a bench own partition 0 with what waits in a store."""
    one.worker.ownership.give(0, stores={WAITING_TABLE: store}, **more)
