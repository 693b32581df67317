"""How windows age: 10 s windows merge into 1 min windows, these into 1 h windows, and these are let go.

All by stream time. What counts late goes to the shortest window that still is: an expired one is never made anew, or
nobody would ever remove it. What is older than the longest windows counts in the totals only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.rules.counts import HOUR_MS, MINUTE_MS, WINDOW_MS, WindowKey, decode_window_key, window_start_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIZE_BYTES = 4


class Retention(NamedTuple):
    """How long windows of a size are kept after their end."""

    size_ms: int
    kept_ms: int

    def holds(self, start_ms: int, stream_time_ms: int) -> bool:
        """Return whether the window of this size around an instant is still kept."""
        return window_start_ms(start_ms, self.size_ms) + self.size_ms > stream_time_ms - self.kept_ms


def window_ladder(kept_ms: int) -> tuple[Retention, ...]:
    """Return how windows age, shortest first: 10 s for `kept_ms`, then 1 min for 24 h, then 1 h for 30 days."""
    return (
        Retention(WINDOW_MS, kept_ms),
        Retention(MINUTE_MS, max(kept_ms, 24 * HOUR_MS)),
        Retention(HOUR_MS, max(kept_ms, 30 * 24 * HOUR_MS)),
    )


def living_window(
    ladder: Iterable[Retention], start_ms: int, kind: str, stream_time_ms: int, longer_than_ms: int = 0
) -> WindowKey | None:
    """Return the shortest window around an instant that is still kept, None if none is."""
    for retention in ladder:
        if retention.size_ms > longer_than_ms and retention.holds(start_ms, stream_time_ms):
            return WindowKey(retention.size_ms, window_start_ms(start_ms, retention.size_ms), kind)
    return None


def first_key_of(size_ms: int) -> bytes:
    """Return where the windows of a size begin in key order."""
    return size_ms.to_bytes(_SIZE_BYTES, "big")


def expired_windows(keys: Iterable[bytes], size_ms: int, before_ms: int, limit: int) -> list[WindowKey]:
    """Return up to `limit` windows of a size that ended at `before_ms` or earlier, from its ordered `keys` on."""
    expired: list[WindowKey] = []
    for data in keys:
        window = decode_window_key(data)
        if window.size_ms != size_ms or window.end_ms > before_ms or len(expired) >= limit:
            break
        expired.append(window)
    return expired


def late_before_ms(stream_time_ms: int, grace_ms: int) -> int:
    """Return the instant before which events are late: their 10 s window was over for longer than the grace."""
    return max(0, window_start_ms(stream_time_ms - grace_ms))
