"""Telling of records whose stamps lie in the future: one log line in a while, and a count for the metrics."""

from __future__ import annotations

import logging
import time

from app.rules.clocks import believed_ms
from app.telemetry.quiet_log import Alike, alike_before

log = logging.getLogger(__name__)

_SILENCE_S = 10.0


class FutureStamps:
    """Believes stamps by the rule of `app.rules.clocks`; `count` records had one that was not believed."""

    def __init__(self) -> None:
        self.count = 0
        self._alike = Alike(_SILENCE_S)

    def believe(self, place: str, stamp_ms: int, now_ms: int) -> int:
        """Return what a stamp counts as; `place` says where it was read. For stamps that seem to be ahead."""
        believed = believed_ms(stamp_ms, now_ms)
        if believed != stamp_ms:
            ahead_s = (stamp_ms - now_ms) / 1_000
            self.note(place, f"a record is stamped {ahead_s:.0f} s ahead of our clock; it counts as now")
        return believed

    def note(self, place: str, what: str) -> None:
        """Count a stamp that is not believed; log `what` unless one of that place was logged just now."""
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
