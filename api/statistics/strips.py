"""Geometry of the strips over time: figures in, rectangles and lines of an SVG out. Pure, like the rules."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from app.rules.counts import WINDOW_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH = 900
HEIGHT = 120
_GAP_SHARE = 0.18
_NICE = (1, 2, 2.5, 5, 10)
_COUNTED = (
    "tasks_created",
    "tasks_started",
    "tasks_finished",
    "tasks_failed",
    "tasks_died",
    "tasks_cancelled",
)


class Moment(NamedTuple):
    """What happened in one slot of time, over all kinds; `waiting` and `in_progress` are what was so at its end."""

    start_ms: int
    finished: int = 0
    failed: int = 0
    created: int = 0
    waiting: int = 0
    in_progress: int = 0


class Bar(NamedTuple):
    """A rectangle of a strip; `part` names its colour."""

    x: float
    y: float
    width: float
    height: float
    part: str


class Strip(NamedTuple):
    """One strip: `top` is the value at its upper edge, `slots` the places to point at, each with its words."""

    bars: list[Bar]
    slots: list[tuple[float, float, str]]
    top: float
    summary: str


def moments(
    windows: Iterable[dict[str, Any]], now: Mapping[str, int], slots: int, now_ms: int, slot_ms: int = WINDOW_MS
) -> list[Moment]:
    """Return the last `slots` slots, oldest first, from windows of any kinds and from the states `now`.

    Windows count events, not states: what waited and what was worked on at an end is what is so now, less what changed
    since. A redrive, and a cancel of what ran, are in no window, so before one of these it is off by those tasks.
    """
    newest_ms = now_ms - now_ms % slot_ms
    starts = [newest_ms - slot_ms * back for back in range(slots)]
    by_start: dict[int, Counter[str]] = {start: Counter() for start in starts}
    for window in windows:
        start = window["start_ms"] - window["start_ms"] % slot_ms
        # A producer whose clock is ahead makes windows that have not come: they belong to what is newest.
        counted = by_start.get(min(start, newest_ms))
        if counted is not None:
            counted.update({name: window[name] for name in _COUNTED})
    in_progress = now.get("tasks_in_progress", 0)
    under_way = in_progress + now.get("tasks_queued", 0) + now.get("tasks_waiting_retry", 0)
    found: list[Moment] = []
    for start in starts:
        of = by_start[start]
        progress = max(0, in_progress)
        waiting = max(0, under_way - progress)
        found.append(Moment(start, of["tasks_finished"], of["tasks_failed"], of["tasks_created"], waiting, progress))
        in_progress -= of["tasks_started"] - of["tasks_finished"] - of["tasks_failed"]
        under_way -= of["tasks_created"] - of["tasks_finished"] - of["tasks_died"] - of["tasks_cancelled"]
    return found[::-1]


def stacked(values: Sequence[tuple[str, Sequence[float]]], words: Sequence[str], summary: str) -> Strip:
    """Stack values of the same slots, each with the name of its part; `words` say what a slot holds."""
    count = len(words)
    heights = [sum(series[slot] for _, series in values) for slot in range(count)]
    top = nice_top(max(heights, default=0))
    step = WIDTH / max(1, count)
    width = step * (1 - _GAP_SHARE)
    bars = []
    for slot in range(count):
        below = 0.0
        for part, series in values:
            height = series[slot] / top * HEIGHT
            if height > 0:
                bars.append(
                    Bar(_round(slot * step), _round(HEIGHT - below - height), _round(width), _round(height), part)
                )
            below += height
    slots = [(_round(slot * step), _round(step), words[slot]) for slot in range(count)]
    return Strip(bars, slots, top, summary)


def nice_top(highest: float) -> float:
    """Return the next round number, so that an axis reads well and does not jump with every value."""
    if highest <= 0:
        return 1
    power = 1.0
    while power * 10 <= highest:
        power *= 10
    while power > highest:
        power /= 10
    return next(power * step for step in _NICE if power * step >= highest)


def shares(parts: Sequence[tuple[str, int]], width: float = 100.0) -> list[tuple[str, int, float, float]]:
    """Return name, count, x and width of each part of a bar; what is there at all is at least 0.6 % wide."""
    total = sum(count for _, count in parts)
    if total <= 0:
        return []
    widths = [max(count / total * width, 0.6) if count > 0 else 0.0 for _, count in parts]
    scale = width / sum(widths)
    placed, x = [], 0.0
    for (name, count), wide in zip(parts, widths, strict=True):
        if wide:
            placed.append((name, count, _round(x), _round(wide * scale)))
        x += wide * scale
    return placed


def _round(value: float) -> float:
    return round(value, 2)
