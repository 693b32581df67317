"""What the last windows say of each moment: what ended, what waited, what was worked on, and how many a second."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from app.rules.counts import WINDOW_MS, window_start_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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


def moments(
    windows: Iterable[dict[str, Any]], now: Mapping[str, int], slots: int, now_ms: int, slot_ms: int = WINDOW_MS
) -> list[Moment]:
    """Return the last `slots` slots, oldest first, from windows of any kinds and from the states `now`.

    Windows count events, not states: what waited and what was worked on at an end is what is so now, less what changed
    since. A redrive, and a cancel of what ran, are in no window, so before one of these it is off by those tasks.
    """
    newest_ms = window_start_ms(now_ms, slot_ms)
    starts = [newest_ms - slot_ms * back for back in range(slots)]
    by_start: dict[int, Counter[str]] = {start: Counter() for start in starts}
    for window in windows:
        start = window_start_ms(window["start_ms"], slot_ms)
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


def per_s_now(counts: Sequence[int], now_ms: int) -> float:
    """Return the mean over the last whole window and what has passed of the one that runs: 10 to 20 s."""
    return sum(counts[-2:]) / (WINDOW_MS / 1_000 + now_ms % WINDOW_MS / 1_000)
