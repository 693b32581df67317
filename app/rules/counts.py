"""The counts of a statistics window, and how windows are named and merged.

A `Counts` is a sum: of events that each counted once, of state changes, of durations. You can add two of them: the
deltas of a step are added to the stored row, windows to longer windows, and all windows of a kind to its total.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from app.rules.histogram import merge_into, quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WINDOW_MS = 10_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
MAX_SUM = 2**63 - 1
"""Where sums stop: rows, SQLite and JSON readers take no more. 40,000 tasks of the longest duration come to as much."""
TOTAL_SIZE_MS = 0
"""The size of the row that never closes: everything since the beginning."""

MAX_KINDS = 1_000
"""Kinds that a partition counts by name; tables, answers and the statistics file have a row for each of them."""
OTHERS = "(others)"
"""What all further kinds are counted as; no kind can be called so."""

_SIZE_BYTES = 4
_START_BYTES = 8


class WindowKey(NamedTuple):
    """Which window: its length, its first instant (inclusive) and the kind of object that it counts."""

    size_ms: int
    start_ms: int
    kind: str

    @property
    def end_ms(self) -> int:
        """The first instant after the window (exclusive)."""
        return self.start_ms + self.size_ms


def window_start_ms(at_ms: int, size_ms: int = WINDOW_MS) -> int:
    """Return the start of the tumbling window that an instant falls into."""
    return at_ms - at_ms % size_ms


def encode_window_key(key: WindowKey) -> bytes:
    """Pack a key so that byte order is time order within a size: size, start (both big-endian), kind."""
    size = key.size_ms.to_bytes(_SIZE_BYTES, "big")
    return size + key.start_ms.to_bytes(_START_BYTES, "big") + key.kind.encode()


def decode_window_key(data: bytes) -> WindowKey:
    """Undo `encode_window_key`."""
    kind_from = _SIZE_BYTES + _START_BYTES
    return WindowKey(
        int.from_bytes(data[:_SIZE_BYTES], "big"),
        int.from_bytes(data[_SIZE_BYTES:kind_from], "big"),
        data[kind_from:].decode(),
    )


class Counts(msgspec.Struct, array_like=True, gc=False):
    """The sums of one window of one kind; durations in ms.

    A row has some 15 KB at most: the longest duration (8,000 years) falls into bucket 348 of each histogram.

    The `_now` fields count tasks by current state, so only totals have them; in a delta they may be below 0. New fields
    must be added at the end, because rows are arrays.
    """

    objects_created: int = 0
    objects_finished: int = 0
    tasks_created: int = 0
    tasks_started: int = 0
    tasks_finished: int = 0
    tasks_failed: int = 0
    tasks_retried: int = 0
    tasks_died: int = 0
    tasks_cancelled: int = 0
    wait_ms: int = 0
    wait_max_ms: int = 0
    wait_histogram: dict[int, int] = msgspec.field(default_factory=dict)
    spent_ms: int = 0
    spent_max_ms: int = 0
    spent_histogram: dict[int, int] = msgspec.field(default_factory=dict)
    object_ms: int = 0
    object_max_ms: int = 0
    object_histogram: dict[int, int] = msgspec.field(default_factory=dict)
    late_events: int = 0
    queued_now: int = 0
    in_progress_now: int = 0
    retrying_now: int = 0
    finished_now: int = 0
    dead_now: int = 0
    cancelled_now: int = 0
    expired_events: int = 0

    @property
    def imbalance(self) -> int:
        """Of a total: tasks created less tasks in any state now; 0 unless something was lost or counted twice."""
        in_states: int = sum(getattr(self, name) for name in STATE_FIELDS)
        return self.tasks_created - in_states


STATE_FIELDS = ("queued_now", "in_progress_now", "retrying_now", "finished_now", "dead_now", "cancelled_now")
"""Tasks by state, in the order of `TASK_STATES` (without UNKNOWN, which is not counted)."""


encode_counts = msgspec.msgpack.Encoder().encode
"""Pack `Counts` for a table."""
decode_counts = msgspec.msgpack.Decoder(Counts).decode
"""Undo `encode_counts`."""

_HISTOGRAMS = ("wait_histogram", "spent_histogram", "object_histogram")
_MAXIMA = ("wait_max_ms", "spent_max_ms", "object_max_ms")
_SUMS = tuple(name for name in Counts.__struct_fields__ if name not in _HISTOGRAMS + _MAXIMA)


def add_counts(target: Counts, other: Counts) -> None:
    """Merge `other` into `target`."""
    for name in _SUMS:
        value = getattr(other, name)
        if value:
            setattr(target, name, min(getattr(target, name) + value, MAX_SUM))
    for name in _MAXIMA:
        if getattr(other, name) > getattr(target, name):
            setattr(target, name, getattr(other, name))
    for name in _HISTOGRAMS:
        merge_into(getattr(target, name), getattr(other, name))


def total_of(parts: Iterable[Counts]) -> Counts:
    """Return the sum of windows or totals, such as those of all partitions or of all kinds."""
    total = Counts()
    for counts in parts:
        add_counts(total, counts)
    return total


def imbalance_of(kinds: Mapping[str, Counts]) -> int:
    """Return how many tasks of all kinds the totals lose or count twice; 0: the law holds.

    Absolute values are added up: one kind's surplus must not hide another's loss.
    """
    return sum(abs(counts.imbalance) for counts in kinds.values())


def describe_window(counts: Counts) -> dict[str, Any]:
    """Return the figures of a window as people read them: events, and of each duration mean, percentiles, maximum."""
    return {
        "objects_created": counts.objects_created,
        "objects_finished": counts.objects_finished,
        "tasks_created": counts.tasks_created,
        "tasks_started": counts.tasks_started,
        "tasks_finished": counts.tasks_finished,
        "tasks_failed": counts.tasks_failed,
        "tasks_retried": counts.tasks_retried,
        "tasks_died": counts.tasks_died,
        "tasks_cancelled": counts.tasks_cancelled,
        "time_spent_ms": counts.spent_ms,
        "late_events": counts.late_events,
        "expired_events": counts.expired_events,
        "queue_wait_ms": _spread(counts.wait_histogram, counts.wait_ms, counts.wait_max_ms),
        "work_time_ms": _spread(counts.spent_histogram, counts.spent_ms, counts.spent_max_ms),
        "object_time_ms": _spread(counts.object_histogram, counts.object_ms, counts.object_max_ms),
    }


def describe_counts(counts: Counts) -> dict[str, Any]:
    """Return the figures of a total as answers show them: the figures of a window, and the tasks by current state."""
    return {
        **describe_window(counts),
        "tasks_queued": counts.queued_now,
        "tasks_in_progress": counts.in_progress_now,
        "tasks_waiting_retry": counts.retrying_now,
        "tasks_dead": counts.dead_now,
    }


def describe_totals(kinds: Mapping[str, Counts]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the figures and the imbalance over all kinds, and of each kind, in order of their names."""
    by_kind = {kind: {**describe_counts(one), "imbalance": one.imbalance} for kind, one in sorted(kinds.items())}
    return {**describe_counts(total_of(kinds.values())), "imbalance": imbalance_of(kinds)}, by_kind


def describe_audits(kinds: Mapping[str, Counts]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the audit over all kinds, and the audit of each kind. The first holds if all others hold."""
    by_kind = {kind: describe_audit(one) for kind, one in sorted(kinds.items())}
    return describe_audit(total_of(kinds.values()), imbalance_of(kinds)), by_kind


def describe_audit(counts: Counts, imbalance: int | None = None) -> dict[str, Any]:
    """Return both sides of the audit: tasks created, tasks by current state, and whether the sum is equal.

    Without an `imbalance`, the counts are of one kind, and the imbalance is computed from them.
    """
    imbalance = counts.imbalance if imbalance is None else imbalance
    return {
        "holds": imbalance == 0,
        "imbalance": imbalance,
        "tasks_created": counts.tasks_created,
        "queued": counts.queued_now,
        "in_progress": counts.in_progress_now,
        "waiting_retry": counts.retrying_now,
        "finished": counts.finished_now,
        "dead": counts.dead_now,
        "cancelled": counts.cancelled_now,
    }


def _spread(histogram: dict[int, int], sum_ms: int, max_ms: int) -> dict[str, float | None]:
    count = sum(histogram.values())
    if count == 0:
        return dict.fromkeys(("mean", "p50", "p95", "p99", "max"))
    # The middle of a bucket can be above the largest value; a p99 above the maximum would look wrong.
    spread: dict[str, float | None] = {"mean": round(sum_ms / count, 1)}
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        spread[name] = round(min(quantile(histogram, q) or 0.0, max_ms), 1)
    spread["max"] = max_ms
    return spread
