"""Draws what the time of a task went into: its spans as stretches of a bar, in the colours of `dashboard.css`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.rules.timeline import What

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.rules.timeline import Span

_WIDTH = 1_000.0
_LEAST_WIDTH = 3.0
_WAIT_PARTS = {What.DELAY: "delay", What.QUEUE: "queued", What.RETRY: "retry", What.WAITS: "retry"}
"""While a task lies dead nothing is drawn: nobody waits for it."""
_WORK_PARTS = {"IN_PROGRESS": "progress", "FINISHED": "finished", "DEAD": "dead", "CANCELLED": "cancelled"}
"""By the state of the task, where no event tells how the work ended. Of a task that goes on after it, it failed."""
_PARTS_BY_END = {"TASK_FINISHED": "finished", "TASK_FAILED": "failed", "TASK_CANCELLED": "cancelled"}


class Segment(NamedTuple):
    """A stretch of a task's bar."""

    x: float
    width: float
    part: str
    told: str


def segments_of(spans: Iterable[Span], state: str, begin_ms: int, end_ms: int, now_ms: int) -> list[Segment]:
    """Return the spans of a task in a state as stretches of the line of time from `begin_ms` to `end_ms`."""
    scale = _WIDTH / max(1, end_ms - begin_ms)
    return [
        Segment(
            round((span.from_ms - begin_ms) * scale, 2),
            round(max(span.lasted_ms(now_ms) * scale, _LEAST_WIDTH), 2),
            _part_of(span, state),
            span.what,
        )
        for span in spans
        if span.what is not What.DEAD
    ]


def _part_of(span: Span, state: str) -> str:
    if span.what is not What.WORK:
        return _WAIT_PARTS[span.what]
    return _PARTS_BY_END.get(span.outcome) or _WORK_PARTS.get(state, "failed")
