"""Totals and windows as the view has them: the rows of all partitions, added up."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from api.view.longer_windows import longer_windows
from api.view.rows import TOTALS_PREFIX, window_key_of, window_prefix, window_row_key
from app.rules.counts import WINDOW_MS, Counts, WindowKey, decode_counts, decode_window_key, total_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from api.view.store import ViewStore
    from api.view.write import Write


class Statistics:
    """Reads statistics from the store that `opened` returns; without a store `opened` raises `ViewBehind`."""

    def __init__(self, opened: Callable[[], ViewStore]) -> None:
        self._opened = opened
        self._totals: dict[str, Counts] | None = None
        self._changed_windows: set[bytes] = set()

    def load(self) -> None:
        """Start with the rows of the store."""
        self._totals = None
        self.mark_all_windows_changed()

    def add(self, write: Write, partition: int, records: Sequence[Any]) -> None:
        """Take in records of the windows' changelog."""
        for record in records:
            write.set(window_row_key(record.key, partition), record.value)
            self._changed_windows.add(record.key)
        self._totals = None

    def totals(self) -> dict[str, Counts]:
        """Return the counts of all time by kind; do not change them."""
        store = self._opened()
        if self._totals is None:
            self._totals = {key.kind: counts for key, counts in _merged(store.newest_first(TOTALS_PREFIX))}
        return self._totals

    def windows(self, size_ms: int, kind: str | None, limit: int) -> list[tuple[WindowKey, Counts]]:
        """Return at most `limit` windows of a size, of one kind or of all, newest first."""
        rows = self._opened().newest_first(window_prefix(size_ms))
        found: list[tuple[WindowKey, Counts]] = []
        if kind is not None:
            rows = ((key, value) for key, value in rows if decode_window_key(window_key_of(key)).kind == kind)
        for window in _merged(rows):
            found.append(window)
            if len(found) == limit:
                break
        return found

    async def windows_of(self, size_ms: int, kind: str | None, limit: int) -> list[tuple[WindowKey, Counts]]:
        """Return at most `limit` windows of a size, newest first; long ones with the shorter ones in them."""
        if size_ms == WINDOW_MS:
            return self.windows(size_ms, kind, limit)
        return await longer_windows(self._opened, size_ms, kind, limit)

    def mark_all_windows_changed(self) -> None:
        """Let the next `take_changed_windows` begin with all that there are."""
        self._changed_windows = {window_key_of(key) for key, _ in self._opened().newest_first(window_prefix())}

    def take_changed_windows(self, limit: int) -> dict[WindowKey, Counts | None]:
        """Return up to `limit` windows that changed since the last call; None for a removed window."""
        store = self._opened()
        taken = sorted(self._changed_windows, reverse=True)[:limit]
        self._changed_windows.difference_update(taken)
        changed: dict[WindowKey, Counts | None] = {}
        for data in taken:
            merged = list(_merged(store.newest_first(window_prefix() + data)))
            key = decode_window_key(data)
            changed[key] = next((counts for found, counts in merged if found == key), None)
        return changed


def _merged(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[WindowKey, Counts]]:
    """Add up the rows of each window: a window has one row in each partition."""
    for window, of_window in groupby(rows, key=lambda row: window_key_of(row[0])):
        yield decode_window_key(window), total_of(decode_counts(value) for _, value in of_window)
