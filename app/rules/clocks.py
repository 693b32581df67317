"""How far a stamp of somebody else's clock is believed: up to now, and a little more.

Stream time (what forgets seen ids, ledger rows and windows) is the newest stamp read. One record from the year 2100
would move it past everything, so a stamp from the future counts as now: the time of the step that reads the record.
What a step has written stays. The topic that outsiders write to has the broker's stamps (LogAppendTime, `app.topics.catalogue`),
with which nothing depends on when a record is read; the bound is for topics that are older, and for brokers' clocks.
"""

from __future__ import annotations

CLOCK_TOLERANCE_MS = 60_000
"""Clocks of healthy machines differ by less; what is stamped further ahead of a clock is not believed."""


def believed_ms(stamp_ms: int, now_ms: int) -> int:
    """Return the instant that a record's stamp counts as (both epoch ms)."""
    return stamp_ms if stamp_ms <= now_ms + CLOCK_TOLERANCE_MS else now_ms


def event_time_ms(at_ms: int, stamp_ms: int) -> int:
    """Return when an event happened that says `at_ms`: not after the (believed) stamp of its record, if it has one."""
    return at_ms if at_ms <= stamp_ms + CLOCK_TOLERANCE_MS or stamp_ms <= 0 else stamp_ms
