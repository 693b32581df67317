"""When too many tasks of a kind die: a sliding window of each kind, with the time as an argument.

The window is a row of slices, so that a task costs an addition, and old results expire one slice at a time. It spans
the last `window_s`, less up to one slice (as resilience4j's time-based sliding window does). The share is checked only
when a task dies.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

SLICES = 60
"""Of one window."""
MAX_REASON_CHARS = 500
"""As the reason that a person may give."""
_FEW_KINDS = 1_000
"""Windows that are kept without looking whether some are empty: a kind is whatever a client makes up."""
_MOST_KINDS = 10_000
"""Windows that are kept at most, 1 KB each. What ends of further kinds is not counted while so many are in use."""


class Deaths(NamedTuple):
    """The counts of a window when its limit was reached; `ended_count` includes the dead tasks."""

    dead_count: int
    ended_count: int


class DeadShares:
    """The share of ended tasks that died, by kind; times in seconds of a single clock.

    The limit is reached if at least `min_count` tasks ended within `window_s`, and at least this share of them died
    (above 0, up to 1).
    """

    def __init__(self, *, limit: float, window_s: float, min_count: int) -> None:
        self.window_s = window_s
        self._limit = limit
        self._slice_s = window_s / SLICES
        self._min_count = min_count
        self._windows: dict[str, _Window] = {}
        self._swept_at_count = _FEW_KINDS
        self._sweeps_from_s = -math.inf
        self._resumed_at_s = -math.inf

    def finished(self, kind: str, began_at_s: float, now_s: float) -> None:
        """Note that a task, whose last attempt began at an instant, finished."""
        window = self._windows.get(kind)
        if window is None or now_s >= window.slice_ends_at_s:
            window = self._turned(kind, now_s)
        if began_at_s >= window.resumed_at_s:
            window.ended_count += 1

    def died(self, kind: str, began_at_s: float, now_s: float) -> Deaths | None:
        """Count a dead task; returns the counts of the window if the limit is reached."""
        window = self._windows.get(kind)
        if window is None or now_s >= window.slice_ends_at_s:
            window = self._turned(kind, now_s)
        if began_at_s < window.resumed_at_s:
            return None
        window.ended_count += 1
        window.dead_count += 1
        if window.ended_count < self._min_count or window.dead_count / window.ended_count < self._limit:
            return None
        return Deaths(window.dead_count, window.ended_count)

    def resumed(self, kind: str, now_s: float) -> None:
        """Restart the count of a kind ("": of all kinds). Tasks that started before and end later do not count.

        Without that the results of tasks that ran through the pause would pause the kind again.
        """
        if kind:
            if kind in self._windows or len(self._windows) < _MOST_KINDS:
                self._windows[kind] = _Window(now_s)
        else:
            self._windows.clear()
            self._resumed_at_s = now_s

    def _turned(self, kind: str, now_s: float) -> _Window:
        """Return a kind's window, moved on to a later slice."""
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= self._swept_at_count and now_s >= self._sweeps_from_s:
                self._sweep(now_s)
            window = _Window(self._resumed_at_s)
            if len(self._windows) < _MOST_KINDS:
                self._windows[kind] = window
        number = math.floor(now_s / self._slice_s)
        window.turn(number, (number + 1) * self._slice_s)
        return window

    def _sweep(self, now_s: float) -> None:
        """Forget windows that are empty; one that was resumed by itself is kept, for it knows since when to count."""
        last_s = now_s - self.window_s
        self._windows = {
            kind: window
            for kind, window in self._windows.items()
            if window.slice_ends_at_s > last_s or window.resumed_at_s > self._resumed_at_s
        }
        self._swept_at_count = min(_MOST_KINDS, max(_FEW_KINDS, 2 * len(self._windows)))
        # Before the next slice hardly any is empty: to look for each new kind would be a standstill.
        self._sweeps_from_s = now_s + self._slice_s


class _Window:
    """The counts of one kind: over all slices, and of each closed slice by its number, oldest first."""

    __slots__ = ("_closed", "_in_closed", "_number", "dead_count", "ended_count", "resumed_at_s", "slice_ends_at_s")

    def __init__(self, resumed_at_s: float) -> None:
        self.resumed_at_s = resumed_at_s
        self.ended_count = 0
        self.dead_count = 0
        self.slice_ends_at_s = -math.inf
        self._number = 0
        self._closed: deque[tuple[int, int, int]] = deque()
        self._in_closed = (0, 0)

    def turn(self, number: int, ends_at_s: float) -> None:
        """Close the slice and start a new one; drop the slices that are older than the window."""
        ended_before, dead_before = self._in_closed
        if self.ended_count > ended_before:
            self._closed.append((self._number, self.ended_count - ended_before, self.dead_count - dead_before))
        while self._closed and self._closed[0][0] <= number - SLICES:
            _, ended_count, dead_count = self._closed.popleft()
            self.ended_count -= ended_count
            self.dead_count -= dead_count
        self._in_closed = (self.ended_count, self.dead_count)
        self._number = number
        self.slice_ends_at_s = ends_at_s


def reason_of(deaths: Deaths, *, worker: str, kind: str, window_s: float, error: str) -> str:
    """Return the reason of the pause: which worker paused the kind, and why, in one line of limited length."""
    said = (
        f"breaker of worker {worker}: {deaths.dead_count} of {deaths.ended_count} tasks of kind {kind} died within "
        f"{window_s:g} s; the last error: {' '.join(error.split())}"
    )
    return said if len(said) <= MAX_REASON_CHARS else f"{said[: MAX_REASON_CHARS - 1]}…"
