"""How far a timestamp of another clock may be in the future: a little, to allow for differences of clocks.

Stream time is the newest timestamp read; it decides when seen ids, ledger rows and windows expire. One record from the
year 2100 would expire everything, so a timestamp from the future counts as now: the time of the step that reads the
record. Values that a step has written stay. The topic for outside producers has the broker's timestamps (LogAppendTime,
`app.topics`), so there nothing depends on when a record is read; the bound is for older topics and for brokers' clocks.
"""

from __future__ import annotations

CLOCK_TOLERANCE_MS = 60_000
"""The clocks of healthy machines differ by less than this; a timestamp further ahead is replaced."""


def believed_ms(stamp_ms: int, now_ms: int) -> int:
    """Return the instant that a record's stamp counts as (both epoch ms)."""
    return stamp_ms if stamp_ms <= now_ms + CLOCK_TOLERANCE_MS else now_ms


def event_time_ms(at_ms: int, stamp_ms: int) -> int:
    """Return when an event happened that says `at_ms`: not after the (believed) stamp of its record, if it has one."""
    return at_ms if at_ms <= stamp_ms + CLOCK_TOLERANCE_MS or stamp_ms <= 0 else stamp_ms
