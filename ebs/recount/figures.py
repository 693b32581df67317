"""Figures of windows and totals: the sums of the objects' facts, the sums of the tables' rows, and the differences."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from ebs.recount.objects import CREATED, MAX_SUM, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from app.rules.counts import Counts
    from ebs.recount.objects import ObjectFacts

WINDOW_MS = 10_000
_COUNTED = {
    "OBJECT_CREATED": "objects_created",
    "TASKS_CREATED": "tasks_created",
    "TASK_STARTED": "tasks_started",
    "TASK_FINISHED": "tasks_finished",
    "TASK_FAILED": "tasks_failed",
    "TASK_RETRIED": "tasks_retried",
    "TASK_DEAD": "tasks_died",
    "TASK_CANCELLED": "tasks_cancelled",
}
_NOW = {
    "QUEUED": "queued_now",
    "IN_PROGRESS": "in_progress_now",
    "RETRYING": "retrying_now",
    "FINISHED": "finished_now",
    "DEAD": "dead_now",
    "CANCELLED": "cancelled_now",
}
_DURATIONS = ("wait", "spent", "object")
_BASE = 1.1
"""Base of the histograms' buckets."""


class RecountedFigures:
    """Counts by name, and how often each duration (ms) occurred."""

    __slots__ = ("counts", "durations")

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.durations: dict[str, Counter[int]] = {name: Counter() for name in _DURATIONS}

    def add(self, other: RecountedFigures) -> None:
        """Add other figures to these."""
        self.counts.update(other.counts)
        for name in _DURATIONS:
            self.durations[name].update(other.durations[name])

    def as_row(self) -> dict[str, Any]:
        """Return the fields of a row with these figures; fields of 0 are left out."""
        row: dict[str, Any] = {name: count for name, count in self.counts.items() if count}
        for name, lasted in self.durations.items():
            total_ms = sum(value * count for value, count in lasted.items())
            if name != "spent":  # the sum of that one includes failed attempts, the histogram does not
                row[f"{name}_ms"] = total_ms
            row[f"{name}_max_ms"] = max(lasted, default=0)
            buckets: Counter[int] = Counter()
            for value, count in lasted.items():
                buckets[-1 if value == 0 else math.ceil(math.log(value) / math.log(_BASE))] += count
            row[f"{name}_histogram"] = dict(buckets)
        return {name: min(value, MAX_SUM) if isinstance(value, int) else value for name, value in row.items() if value}


def row_of(rows: Iterable[Counts]) -> dict[str, Any]:
    """Return the sums of the fields of rows of the table; fields of 0 are left out."""
    held: dict[str, Any] = {}
    for counts in rows:
        for name, value in msgspec.structs.asdict(counts).items():
            if name.endswith("_histogram"):
                held[name] = dict(Counter(held.get(name, {})) + Counter(value))
            elif name.endswith("_max_ms"):
                held[name] = max(held.get(name, 0), value)
            else:
                held[name] = min(held.get(name, 0) + value, MAX_SUM)
    return {name: value for name, value in held.items() if value}


def unequal(told: dict[str, Any], expected: dict[str, Any], *, but: frozenset[str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each field that differs, with both values, except the fields in `but`."""
    for name in sorted((told.keys() | expected.keys()) - but):
        ours, theirs = told.get(name, 0), expected.get(name, 0)
        if ours != theirs:
            yield name, ours, theirs


class Expected:
    """What the tables should have, by the events of a partition: `windows` by start and kind, `totals` by kind.

    `counted_as` returns the name under which a kind is counted. Events of doubtful objects count in the windows
    `unknown` and in the totals of `unknown_kinds`. Of objects whose events the statistics counted at other times, the
    times are not compared: `ahead` has all windows in which they can be, `ahead_kinds` their kinds.
    """

    def __init__(self, counted_as: Callable[[str], str] = str) -> None:
        self._counted_as = counted_as
        self.windows: dict[tuple[int, str], RecountedFigures] = defaultdict(RecountedFigures)
        self.totals: dict[str, RecountedFigures] = defaultdict(RecountedFigures)
        self.unknown: set[tuple[int, str]] = set()
        self.unknown_kinds: set[str] = set()
        self.ahead: set[tuple[int, str]] = set()
        self.ahead_kinds: set[str] = set()

    def add(self, facts: ObjectFacts) -> None:
        """Add the figures of all events of an object."""
        kind = self._counted_as(facts.kind)
        if facts.is_doubtful:
            doubtful = [(_start_of(fact.at_ms), self._counted_as(of)) for of, _, fact, _ in facts.happened()]
            self.unknown.update(doubtful)
            self.unknown_kinds.update([kind], (of for _, of in doubtful))
            return
        if facts.counted_ms is not None:
            self._add_ahead(facts, *facts.counted_ms)
        for of, name, fact, is_redrive in facts.happened():
            window = self.windows[_start_of(fact.at_ms), self._counted_as(of)]
            # A redrive sends TASKS_CREATED again, but the task is not new.
            window.counts[_COUNTED[name]] += not (name == CREATED and is_redrive)
            window.counts["late_events"] += fact.is_late
            self._add_durations(name, fact.wait_ms, fact.spent_ms, window)
        told = facts.described()
        finished_ms = told["finished_at_ms"]
        if finished_ms is not None:
            window = self.windows[_start_of(finished_ms), kind]
            window.counts["objects_finished"] += 1
            if facts.created is not None:
                window.durations["object"][max(0, finished_ms - told["created_at_ms"])] += 1
        for sequence, task in facts.tasks.items():
            if any(key.type == CREATED and not key.redrive for key in task):
                self.totals[self._counted_as(facts.counted_as(sequence))].counts[_NOW[state_of(task)]] += 1

    def _add_ahead(self, facts: ObjectFacts, first_ms: int, last_ms: int) -> None:
        for of, _, fact, _ in facts.happened():
            kind = self._counted_as(of)
            self.ahead_kinds.add(kind)
            self.ahead.add((_start_of(fact.at_ms), kind))
            self.ahead.update((at_ms, kind) for at_ms in range(_start_of(first_ms), last_ms + 1, WINDOW_MS))

    def finish(self) -> None:
        """Add the windows up to the totals."""
        for (_, kind), figures in self.windows.items():
            self.totals[kind].add(figures)

    @staticmethod
    def _add_durations(name: str, wait_ms: int, spent_ms: int, figures: RecountedFigures) -> None:
        if name == "TASK_STARTED":
            figures.durations["wait"][wait_ms] += 1
        elif name in {"TASK_FINISHED", "TASK_FAILED"}:
            figures.counts["spent_ms"] += spent_ms
            if name == "TASK_FINISHED":
                figures.durations["spent"][spent_ms] += 1


def _start_of(at_ms: int) -> int:
    return at_ms // WINDOW_MS * WINDOW_MS
