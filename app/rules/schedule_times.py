"""The instants of a schedule, in epoch milliseconds.

Cron lines are those of Debian's cron, by the library cronsim (five fields, or six with seconds in front), and the
aliases `@hourly` to `@yearly`. Daylight saving: a line of fixed times, such as `30 2 * * *`, fires once on each of its
days: if its local time does not exist, at the first moment after the gap; if it exists twice, at the first of the two.
A line whose minute or hour begins with `*`, or that has seconds, follows real time and fires in both of two equal
hours. Periods (`every_ms`) count real time and know no daylight saving.

cronsim was chosen over croniter 5: that one has a job of 02:30 run at 03:30 after the gap, fires once a day too few or
an hour too late after the second change, takes `5-1`, `R` and Arabic digits as minutes, and is five times slower.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from app.telemetry.near_names import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_EVERY_S = 1
MAX_EVERY_S = 366 * 86_400
GRACE_MS = 60_000
"""An instant is late, but not missed, for so long: a restart or a rebalance may take it."""
MAX_CRON_CHARS = 200
_S_MS = 1_000
_DAY_MS = 86_400_000
_CALENDAR_END_MS = 253_402_214_400_000
"""9999-12-31 in UTC. Later instants have no date in every time zone: Python's years end with 9999."""
_LOOK_BACK_MS = (60_000, 3_600_000, _DAY_MS, 32 * _DAY_MS, 366 * _DAY_MS)
_OF_THE_MACHINE = frozenset({"localtime", "posixrules"})
"""Files in the folder of the time zones which each machine has as it likes."""
_TOO_LARGE = re.compile(r"\d{5}", re.ASCII)
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class Timing(NamedTuple):
    """When a schedule fires: a cron line in a time zone, or a period; both only between two instants."""

    cron: str | None = None
    every_ms: int | None = None
    time_zone: str = "UTC"
    start_ms: int | None = None
    end_ms: int | None = None


def why_no_timing(timing: Timing) -> tuple[str, str] | None:
    """Return the field that is wrong and what to do about it, None if the timing can be used."""
    if (timing.cron is None) == (timing.every_ms is None):
        return "cron", 'give cron, such as "30 6 * * 1-5", or every_s, such as 3600, and not both'
    wrong_zone = _why_no_zone(timing.time_zone)
    if wrong_zone is not None:
        return "time_zone", wrong_zone
    if timing.cron is not None:
        wrong_cron = _why_no_cron(timing.cron)
        if wrong_cron is not None:
            return "cron", wrong_cron
    if timing.start_ms is not None and timing.end_ms is not None and timing.end_ms < timing.start_ms:
        return "end_at", "it is before start_at, so the schedule would never fire"
    return None


def next_instant(timing: Timing, after_ms: int) -> int | None:
    """Return the first instant after `after_ms`, None if there is none any more."""
    if timing.start_ms is not None:
        after_ms = max(after_ms, timing.start_ms - 1)
    if timing.every_ms is not None:
        from_ms = timing.start_ms or 0
        found: int | None = from_ms + ((after_ms - from_ms) // timing.every_ms + 1) * timing.every_ms
    else:
        found = next((at_ms for at_ms in _cron_instants(timing, after_ms) if at_ms > after_ms), None)
    end_ms = _CALENDAR_END_MS if timing.end_ms is None else min(timing.end_ms, _CALENDAR_END_MS)
    return None if found is None or found > end_ms else found


def next_instants(timing: Timing, after_ms: int, count: int) -> list[int]:
    """Return the first `count` instants after `after_ms`, fewer if it ends before."""
    found: list[int] = []
    at_ms = next_instant(timing, after_ms)
    while at_ms is not None and len(found) < count:
        found.append(at_ms)
        at_ms = next_instant(timing, at_ms)
    return found


def last_instant(timing: Timing, from_ms: int, until_ms: int) -> int:
    """Return the last instant up to `until_ms`; `from_ms` is an instant at or before that.

    It goes forward from some time before, as cronsim does not find the same instants backwards in an hour that exists
    twice.
    """
    for back_ms in _LOOK_BACK_MS:
        at_ms = next_instant(timing, max(from_ms, until_ms - back_ms))
        if at_ms is not None and at_ms <= until_ms:
            break
    else:
        at_ms = from_ms
    last_ms = from_ms
    while at_ms is not None and at_ms <= until_ms:
        last_ms = at_ms
        at_ms = next_instant(timing, at_ms)
    return last_ms


def in_words(timing: Timing) -> str:
    """Return a timing for people: `At 06:30 every weekday, Europe/Berlin`."""
    if timing.every_ms is not None:
        return f"Every {_period(timing.every_ms)}"
    words = _simulation(timing.cron or "", datetime.fromtimestamp(0, ZoneInfo("UTC"))).explain()
    return f"{words.replace('on Monday through Friday', 'every weekday')}, {timing.time_zone}"


def _cron_instants(timing: Timing, after_ms: int) -> Iterator[int]:
    """Iterate over instants; in the second of two equal hours the first may be before `after_ms`."""
    zone = ZoneInfo(timing.time_zone)
    try:
        for at in _simulation(timing.cron or "", datetime.fromtimestamp(after_ms // _S_MS, zone)):
            yield round(at.timestamp()) * _S_MS
    except (OverflowError, ValueError):
        return  # the calendar ends


def _simulation(cron: str, at: datetime) -> CronSim:
    return CronSim(_ALIASES.get(cron.strip().lower(), cron), at)


def _why_no_cron(cron: str) -> str | None:
    try:
        if len(cron) > MAX_CRON_CHARS:
            raise CronSimError(f"it has more than {MAX_CRON_CHARS} characters")  # noqa: TRY301  # as any other mistake
        if _TOO_LARGE.search(cron):
            raise CronSimError("a number in it is too large")  # noqa: TRY301  # cronsim takes any step
        fires = next(_simulation(cron, datetime.fromtimestamp(0, ZoneInfo("UTC"))), None) is not None
        problem = "" if fires else "it never fires"
    except (CronSimError, AssertionError, ValueError, TypeError) as error:
        problem = str(error) or "it cannot be read"
    if not problem:
        return None
    return (
        f"{shown(cron)} is no cron line ({problem[:1].lower()}{problem[1:]}): write minute, hour, day of month, month "
        'and day of week, such as "30 6 * * 1-5" for 06:30 on weekdays'
    )


def _why_no_zone(name: str) -> str | None:
    if name in _OF_THE_MACHINE:
        return f"{shown(name)} is another time zone on each machine: write a name such as Europe/Berlin or UTC"
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        guess = did_you_mean(name, available_timezones())
        return f"no time zone is called {shown(name)}{guess}: write a name such as Europe/Berlin or UTC"
    return None


def _period(every_ms: int) -> str:
    units = ((_DAY_MS, "day"), (3_600_000, "hour"), (60_000, "minute"), (_S_MS, "second"))
    for unit_ms, unit in units:
        if every_ms % unit_ms == 0:
            count = every_ms // unit_ms
            return unit if count == 1 else f"{count} {unit}s"
    return f"{every_ms / _S_MS:g} seconds"
