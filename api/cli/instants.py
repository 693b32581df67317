"""Instants as people type them."""

from __future__ import annotations

import re
import time
from datetime import datetime

import typer

_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])")
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
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
            f"{text} is no time: give an age (90s, 10m, 2h, 3d), ISO 8601 such as 2026-11-24T07:00, or epoch ms"
        ) from None


def instant_text(at_ms: int) -> str:
    """Return an instant as people read it, in local time."""
    return datetime.fromtimestamp(at_ms / 1_000).astimezone().isoformat(sep=" ", timespec="seconds")


def clock_text(at_ms: int) -> str:
    """Return the time of day of an instant, in local time, to the millisecond."""
    return datetime.fromtimestamp(at_ms / 1_000).astimezone().strftime("%H:%M:%S.%f")[:-3]
