"""What a statistics window counts, and how windows are named and merged.

A `Counts` is a sum: of events that each counted once, of state changes, of durations. Adding two of them gives the
counts of both, so the deltas of one step merge into the stored row, windows merge into longer ones, and all windows
of a kind merge into its total.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from app.rules.histogram import merge_into, quantile

if TYPE_CHECKING:
    from collections.abc import Iterable

WINDOW_MS = 10_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
TOTAL_SIZE_MS = 0
"""The size of the row that never closes: everything since the beginning."""

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


class Retention(NamedTuple):
    """How long windows of a size are kept after their end, and the size that they are merged into then, if any."""

    size_ms: int
    kept_ms: int
    merged_into_ms: int | None


def window_ladder(kept_ms: int) -> tuple[Retention, ...]:
    """Return how windows age: 10 s for `kept_ms`, then 1 min for 24 h, then 1 h for 30 days."""
    return (
        Retention(WINDOW_MS, kept_ms, MINUTE_MS),
        Retention(MINUTE_MS, max(kept_ms, 24 * HOUR_MS), HOUR_MS),
        Retention(HOUR_MS, max(kept_ms, 30 * 24 * HOUR_MS), None),
    )


def first_key_of(size_ms: int) -> bytes:
    """Return where the windows of a size begin in key order."""
    return size_ms.to_bytes(_SIZE_BYTES, "big")


def merged_window(window: WindowKey, size_ms: int) -> WindowKey:
    """Return the longer window that a window is merged into."""
    return WindowKey(size_ms, window_start_ms(window.start_ms, size_ms), window.kind)


def expired_windows(keys: Iterable[bytes], size_ms: int, before_ms: int, limit: int) -> list[WindowKey]:
    """Return up to `limit` windows of a size that ended at `before_ms` or earlier, from its ordered `keys` on."""
    expired: list[WindowKey] = []
    for data in keys:
        window = decode_window_key(data)
        if window.size_ms != size_ms or window.end_ms > before_ms or len(expired) >= limit:
            break
        expired.append(window)
    return expired


class Counts(msgspec.Struct, array_like=True, gc=False):
    """The sums of one window of one kind; durations in ms. The `_now` fields count states, in a delta also below 0."""

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

    @property
    def imbalance(self) -> int:
        """Tasks created less tasks in any state now: 0 unless something was lost or counted twice."""
        in_states = self.queued_now + self.in_progress_now + self.retrying_now
        in_states += self.finished_now + self.dead_now + self.cancelled_now
        return self.tasks_created - in_states


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
            setattr(target, name, getattr(target, name) + value)
    for name in _MAXIMA:
        if getattr(other, name) > getattr(target, name):
            setattr(target, name, getattr(other, name))
    for name in _HISTOGRAMS:
        merge_into(getattr(target, name), getattr(other, name))


def describe_counts(counts: Counts) -> dict[str, Any]:
    """Return the figures as people read them: counts, states now, and of each duration mean, percentiles, maximum."""
    return {
        "objects_created": counts.objects_created,
        "objects_finished": counts.objects_finished,
        "tasks_created": counts.tasks_created,
        "tasks_started": counts.tasks_started,
        "tasks_queued": counts.queued_now,
        "tasks_in_progress": counts.in_progress_now,
        "tasks_waiting_retry": counts.retrying_now,
        "tasks_finished": counts.tasks_finished,
        "tasks_failed": counts.tasks_failed,
        "tasks_retried": counts.tasks_retried,
        "tasks_dead": counts.dead_now,
        "tasks_cancelled": counts.tasks_cancelled,
        "time_spent_ms": counts.spent_ms,
        "late_events": counts.late_events,
        "queue_wait_ms": _spread(counts.wait_histogram, counts.wait_ms, counts.wait_max_ms),
        "work_time_ms": _spread(counts.spent_histogram, counts.spent_ms, counts.spent_max_ms),
        "object_time_ms": _spread(counts.object_histogram, counts.object_ms, counts.object_max_ms),
    }


def _spread(histogram: dict[int, int], sum_ms: int, max_ms: int) -> dict[str, float | None]:
    count = sum(histogram.values())
    if count == 0:
        return dict.fromkeys(("mean", "p50", "p95", "p99", "max"))
    # A bucket's middle can lie above the largest value that was seen; nobody believes a p99 over the maximum.
    spread: dict[str, float | None] = {"mean": round(sum_ms / count, 1)}
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        spread[name] = round(min(quantile(histogram, q) or 0.0, max_ms), 1)
    spread["max"] = max_ms
    return spread
