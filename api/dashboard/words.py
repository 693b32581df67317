"""Figures and instants as people read them: filters of the templates. Durations are ms, instants UTC epoch ms."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from markupsafe import Markup, escape

from app.events import MAX_INSTANT_MS

if TYPE_CHECKING:
    from collections.abc import Callable

NOTHING = "\u2013"
_S_MS = 1_000
_MIN_MS = 60_000
_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
_TENTHS_BELOW_MS = 10_000
_WHOLE_FROM = 10


def number(value: float | None) -> str:
    """Return 1234567 as 1,234,567."""
    return NOTHING if value is None else f"{value:,}"


def rate(per_s: float | None) -> str:
    """Return a number per second with as many digits as are of use."""
    if per_s is None:
        return NOTHING
    return f"{per_s:,.0f}" if per_s >= _WHOLE_FROM or per_s == 0 else f"{per_s:.1f}"


def duration(value_ms: float | None) -> str:
    """Return 1500 as 1.5 s."""
    if value_ms is None:
        return NOTHING
    value_ms = max(0, value_ms)
    if value_ms < _S_MS:
        return f"{value_ms:.0f} ms"
    if value_ms < _TENTHS_BELOW_MS:
        return f"{value_ms / _S_MS:.1f} s"
    if value_ms < _MIN_MS:
        return f"{value_ms / _S_MS:.0f} s"
    for unit_ms, unit, part_ms, part in ((_DAY_MS, "d", _HOUR_MS, "h"), (_HOUR_MS, "h", _MIN_MS, "min")):
        if value_ms >= unit_ms:
            rest = int(value_ms % unit_ms // part_ms)
            return f"{int(value_ms // unit_ms)} {unit}" + (f" {rest} {part}" if rest else "")
    rest = int(value_ms % _MIN_MS // _S_MS)
    return f"{int(value_ms // _MIN_MS)} min" + (f" {rest} s" if rest else "")


def moment(at_ms: int | None) -> Markup:
    """Return the time of day, with the date for those who point at it."""
    return _time(at_ms, lambda _at: plain_moment(at_ms or 0))


def plain_moment(at_ms: int) -> str:
    """Return the time of day as text alone."""
    return f"{_utc(at_ms):%H:%M:%S}"


def to_the_ms(at_ms: int | None) -> Markup:
    """Return the time of day with its milliseconds."""
    return _time(at_ms, lambda at: f"{at:%H:%M:%S}.{at.microsecond // _S_MS:03d}")


def day_and_moment(at_ms: int | None) -> Markup:
    """Return date and time of day."""
    return _time(at_ms, lambda at: f"{at:%Y-%m-%d %H:%M:%S}")


def ago(at_ms: int | None, now_ms: int) -> Markup:
    """Return how long ago an instant was. An instant in the future, by another machine's clock, is "just now"."""

    def words(_at: datetime) -> str:
        age_ms = now_ms - (at_ms or 0)
        return "just now" if age_ms < _S_MS else f"{coarse(age_ms)} ago"

    return _time(at_ms, words)


def until(at_ms: int | None, now_ms: int) -> str:
    """Return how long it is until an instant."""
    if at_ms is None:
        return NOTHING
    return "now" if at_ms <= now_ms else f"in {duration(at_ms - now_ms)}"


def coarse(value_ms: float) -> str:
    """Return a duration by its largest unit."""
    for unit_ms, unit in ((_DAY_MS, "d"), (_HOUR_MS, "h"), (_MIN_MS, "min")):
        if value_ms >= unit_ms:
            return f"{int(value_ms // unit_ms)} {unit}"
    return f"{int(value_ms // _S_MS)} s"


def pretty(value: Any) -> str:
    """Return JSON over several lines."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def compact(value: Any) -> str:
    """Return JSON on one line."""
    return msgspec.json.encode(value).decode()


def _time(at_ms: int | None, words: Callable[[datetime], str]) -> Markup:
    if at_ms is None:
        return escape(NOTHING)
    at = _utc(at_ms)
    exact = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // _S_MS:03d} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at.isoformat(), exact, words(at))


def _utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(min(max(0, at_ms), MAX_INSTANT_MS) / _S_MS, UTC)
