"""Where the events of tasks begin and end on their topic, according to the ledger's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.view.event_log import Begin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.rules.ledger_rows import ObjectRow, TaskRow

_CLOCK_SLACK_MS = 1_000
"""The first task's instant and its record's are of one clock, which NTP may turn back a little."""
_CLOCKS_DIFFER_MS = 60_000
_LATE_MS = 600_000
"""No event comes later than this after the end of an object."""


def range_of(tasks: Iterable[TaskRow], row: ObjectRow, now_ms: int, *, ended: bool) -> tuple[Begin, int | None]:
    """Return where the events of these tasks of an object begin.

    If the tasks have ended, also return the instant (epoch ms) after which there are no more events.
    """
    known = list(tasks)
    until_ms = None
    if ended:
        until_ms = max((max(task.started_at_ms, task.ended_at_ms) for task in known), default=0) + _LATE_MS
    created_at_ms = min((task.created_at_ms for task in known if task.created_at_ms), default=0)
    if created_at_ms:
        return Begin(at_ms=max(0, created_at_ms - _CLOCK_SLACK_MS)), until_ms
    # Nobody has counted a task yet: the clock that made the object is another one.
    return Begin(at_ms=max(0, min(row.created_at_ms, now_ms) - _CLOCKS_DIFFER_MS)), until_ms
