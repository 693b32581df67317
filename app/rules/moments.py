"""The last windows as a chart: tasks that ended, waited and ran in each slot of time, and the rate per second."""

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
    """The counts of one slot of time, over all kinds; `waiting` and `in_progress` are the counts at its end."""

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

    Windows count events, not states: the tasks that waited or ran at the end of a slot are those of now, less the later
    changes. Redrives and cancels of running tasks are in no window, so earlier slots are off by these tasks.
    """
    newest_ms = window_start_ms(now_ms, slot_ms)
    starts = [newest_ms - slot_ms * back for back in range(slots)]
    by_start: dict[int, Counter[str]] = {start: Counter() for start in starts}
    for window in windows:
        start = window_start_ms(window["start_ms"], slot_ms)
        # A producer whose clock is ahead makes windows in the future: they count in the newest slot.
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
    """Return the mean over the last whole window and the current one until now: 10 to 20 s."""
    return sum(counts[-2:]) / (WINDOW_MS / 1_000 + now_ms % WINDOW_MS / 1_000)
