"""When a task starts at the earliest: `delay_s` seconds after it was asked for, or at the instant `due_at`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

MAX_DELAY_S = 366 * 86_400
"""What waits for longer than a year is probably a mistake."""


def why_no_start(delay_s: Any, due_at: Any, now_s: float) -> str | None:
    """Return why a task cannot start when it is asked to, and what to change; None if it can."""
    if delay_s is not None and due_at is not None:
        return "delay_s and due_at both say when to start: give one of them"
    if delay_s is not None and not (
        isinstance(delay_s, int | float) and not isinstance(delay_s, bool) and 0 <= delay_s <= MAX_DELAY_S
    ):
        return f"delay_s={delay_s!r} is not a number of seconds from 0 to {MAX_DELAY_S:,} (a year)"
    if due_at is None:
        return None
    if not isinstance(due_at, datetime) or due_at.tzinfo is None:
        return f"due_at={due_at!r} is not a datetime with a time zone, such as datetime.now(UTC) + timedelta(hours=1)"
    if due_at.timestamp() - now_s > MAX_DELAY_S:
        return f"due_at={due_at.isoformat()} is more than a year from now"
    return None
