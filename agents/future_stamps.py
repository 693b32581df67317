"""Reports records with timestamps in the future: a log line from time to time, and a count for the metrics."""

from __future__ import annotations

import logging
import time

from app.rules.clocks import believed_ms
from app.telemetry.quiet_log import Alike, alike_before

log = logging.getLogger(__name__)

_SILENCE_S = 10.0


class FutureStamps:
    """Replaces timestamps in the future by the rule of `app.rules.clocks`; `count` counts the replaced ones."""

    def __init__(self) -> None:
        self.count = 0
        self._alike = Alike(_SILENCE_S)

    def believe(self, place: str, stamp_ms: int, now_ms: int) -> int:
        """Return the timestamp that counts; `place` says where it was read. For timestamps that seem to be ahead."""
        believed = believed_ms(stamp_ms, now_ms)
        if believed != stamp_ms:
            ahead_s = (stamp_ms - now_ms) / 1_000
            self.note(place, f"a record is stamped {ahead_s:.0f} s ahead of our clock; it counts as now")
        return believed

    def note(self, place: str, what: str) -> None:
        """Count a replaced timestamp; log `what`, unless one of the same place was logged just now."""
        self.count += 1
        untold_count = self._alike.untold_before(place, time.monotonic())
        if untold_count is not None:
            log.warning(
                "%s: %s. Set the producer's clock (NTP)%s",
                place,
                what,
                alike_before(untold_count),
            )


future_stamps = FutureStamps()
"""Those of this process."""
