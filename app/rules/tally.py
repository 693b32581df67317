"""What one step adds to the statistics: events to the windows of their time, moves between states to the totals.

The law `tasks created = queued + in progress + waiting for retry + finished + dead + cancelled` holds in every tally,
whatever the order in which events are heard: a task is counted in a state from the moment on at which its (first)
TASKS_CREATED is counted, and in exactly one. An event that overtook its TASKS_CREATED only says into which.
"""

from __future__ import annotations

from app.rules.counts import STATE_FIELDS, WINDOW_MS, Counts, add_counts
from app.rules.histogram import bucket_of
from app.rules.ledger_states import TASK_STATES


class Tally:
    """The changes: `windows` by start and kind, `moves` by kind (how many tasks more or less in each state)."""

    __slots__ = ("_counts", "_kind", "_start_ms", "moves", "windows")

    def __init__(self) -> None:
        self.windows: dict[tuple[int, str], Counts] = {}
        self.moves: dict[str, list[int]] = {}
        # The window of the last call: nearly all calls in a row want the same one.
        self._start_ms = -WINDOW_MS
        self._kind = ""
        self._counts = Counts()

    def at(self, at_ms: int, kind: str) -> Counts:
        """Return the changes of the window that an instant falls into."""
        if 0 <= at_ms - self._start_ms < WINDOW_MS and kind == self._kind:
            return self._counts
        start_ms = at_ms - at_ms % WINDOW_MS
        counts = self.windows.get((start_ms, kind))
        if counts is None:
            counts = self.windows[start_ms, kind] = Counts()
        self._start_ms, self._kind, self._counts = start_ms, kind, counts
        return counts

    def move(self, kind: str, before: int, after: int, count: int = 1) -> None:
        """Count tasks of a kind out of one state and into another (numbers of `TASK_STATES`)."""
        moves = self.moves.get(kind)
        if moves is None:
            moves = self.moves[kind] = [0] * len(TASK_STATES)
        moves[before] -= count
        moves[after] += count

    def totals(self) -> dict[str, Counts]:
        """Return the sum of all windows by kind, with the moves, which belong to no window: states are of now."""
        totals: dict[str, Counts] = {}
        for (_, kind), delta in self.windows.items():
            add_counts(totals.setdefault(kind, Counts()), delta)
        for kind, moves in self.moves.items():
            counts = totals.setdefault(kind, Counts())
            for name, change in zip(STATE_FIELDS, moves[1:], strict=True):
                setattr(counts, name, change)
        return totals


def count_duration(histogram: dict[int, int], duration_ms: int) -> None:
    """Count a duration into its bucket."""
    bucket = bucket_of(duration_ms)
    histogram[bucket] = histogram.get(bucket, 0) + 1
