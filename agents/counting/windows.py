"""The rows of windows and totals in a step: adding a tally, merging and deleting old windows."""

from __future__ import annotations

from itertools import islice, takewhile
from typing import TYPE_CHECKING

from app.names import WINDOWS_TABLE
from app.rules.counts import (
    MAX_KINDS,
    OTHERS,
    TOTAL_SIZE_MS,
    WINDOW_MS,
    Counts,
    WindowKey,
    add_counts,
    decode_counts,
    decode_window_key,
    encode_counts,
    encode_window_key,
)
from app.rules.window_retention import Retention, expired_windows, first_key_of, living_window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.rules.tally import Tally
    from app.streaming.step import Step
    from app.streaming.tables import StepRows

EXPIRE_PER_STEP = 500
"""Windows of a size merged or deleted in one step at most."""


class Windows:
    """Keeps windows for as long as the retentions say; times are stream times, epoch ms."""

    def __init__(self, retentions: Sequence[Retention]) -> None:
        self._retentions = retentions
        self._expired_until_ms: dict[int, int] = {}

    def add(self, step: Step, partition: int, tally: Tally, stream_time_ms: int) -> None:
        """Add a tally: events to the shortest windows around them that are still kept, everything to the totals."""
        totals = tally.totals()
        counted_as = _names_of(step.rows(WINDOWS_TABLE, partition), totals)
        for (start_ms, kind), delta in tally.windows.items():
            window = living_window(self._retentions, start_ms, counted_as[kind], stream_time_ms)
            if window is not None:
                _add(step, partition, window, delta)
        for kind, delta in totals.items():
            _add(step, partition, _total_key(counted_as[kind]), delta)

    def expire(self, step: Step, partition: int, stream_time_ms: int) -> None:
        """Merge windows that are over for long into longer ones, and let go of the oldest."""
        slot_ms = stream_time_ms - stream_time_ms % WINDOW_MS
        if self._expired_until_ms.get(partition) == slot_ms:
            # Nothing expires within a slot; looking costs three iterators for each partition and step.
            return
        is_done = True
        windows = step.rows(WINDOWS_TABLE, partition)
        for size_ms, kept_ms in self._retentions:
            keys = windows.committed_keys(first_key_of(size_ms))
            expired = expired_windows(keys, size_ms, stream_time_ms - kept_ms, EXPIRE_PER_STEP)
            is_done = is_done and len(expired) < EXPIRE_PER_STEP
            for window in expired:
                key = encode_window_key(window)
                stored = windows.get(key)
                longer = living_window(self._retentions, window.start_ms, window.kind, stream_time_ms, size_ms)
                if stored and longer:
                    _add(step, partition, longer, decode_counts(stored))
                windows.delete(key)
        if is_done:
            self._expired_until_ms[partition] = slot_ms


def _total_key(kind: str) -> WindowKey:
    return WindowKey(TOTAL_SIZE_MS, 0, kind)


def _names_of(windows: StepRows, kinds: Iterable[str]) -> dict[str, str]:
    """Return the name under which each kind is counted: its own, or `(others)` if there are `MAX_KINDS` already.

    Totals are kept for ever, so a kind is counted under one name for ever, and the audit holds for each name.
    """
    names = {kind: kind for kind in kinds}
    new = sorted(kind for kind in names if windows.get(encode_window_key(_total_key(kind))) is None)
    if new:
        known = takewhile(lambda key: decode_window_key(key).size_ms == TOTAL_SIZE_MS, windows.committed_keys())
        room = MAX_KINDS - sum(1 for _ in islice(known, MAX_KINDS))
        names |= dict.fromkeys(new[room:], OTHERS)
    return names


def _add(step: Step, partition: int, window: WindowKey, delta: Counts) -> None:
    windows = step.rows(WINDOWS_TABLE, partition)
    key = encode_window_key(window)
    stored = windows.get(key)
    counts = decode_counts(stored) if stored else Counts()
    # Also where there was no row: it keeps sums within what a row takes.
    add_counts(counts, delta)
    windows.put(key, encode_counts(counts))
