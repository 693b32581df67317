"""Instants as people type them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import typer

from app.events import MAX_INSTANT_MS

_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])")
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MARGIN_MS = 3 * _UNITS_MS["d"]
_EPOCH_MS = re.compile(r"\d{9,15}")


def instant_ms(text: str | None, now_ms: int | None = None) -> int | None:
    """Return an instant in epoch ms: an age (90s, 10m, 2h, 3d), ISO 8601 (local unless it says), or epoch ms.

    Raises `typer.BadParameter`, which is exit code 2.
    """
    if text is None:
        return None
    age = _AGE.fullmatch(text)
    if age is not None:
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        return max(0, now_ms - round(float(age[1]) * _UNITS_MS[age[2]]))
    if _EPOCH_MS.fullmatch(text):
        return int(text)
    try:
        return max(0, round(datetime.fromisoformat(text).timestamp() * 1_000))
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text} is not a time: give an age (90s, 10m, 2h, 3d), ISO 8601 such as 2026-11-24T07:00, or epoch ms"
        ) from None


def duration_s(text: str) -> float:
    """Return a duration in seconds: 90s, 10m, 2h, 3d, or a number of seconds. Raises `typer.BadParameter`."""
    age = _AGE.fullmatch(text if text[-1:].isalpha() else f"{text}s")
    if age is None:
        raise typer.BadParameter(f"{text} is not a duration: give 30s, 10m, 2h or 1d")
    return float(age[1]) * _UNITS_MS[age[2]] / 1_000


def zoned_instant(text: str) -> str:
    """Return an instant in ISO 8601 with its time zone: the local one unless it says. Raises `typer.BadParameter`."""
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text} is not a time: give ISO 8601, such as 2027-01-01T09:00 (local time) or 2027-01-01T09:00+01:00"
        ) from None


def instant_text(at_ms: int) -> str:
    """Return an instant as people read it, in local time."""
    return _local(at_ms).isoformat(sep=" ", timespec="seconds")


def clock_text(at_ms: int) -> str:
    """Return the time of day of an instant, in local time, to the millisecond."""
    return _local(at_ms).strftime("%H:%M:%S.%f")[:-3]


def _local(at_ms: int) -> datetime:
    # Somewhere it is another day already, and Python looks a day further: dates end a little earlier than time does.
    shown_ms = min(max(0, at_ms), MAX_INSTANT_MS - _MARGIN_MS)
    return datetime.fromtimestamp(shown_ms / 1_000, UTC).astimezone()
