"""Instants as clients write them."""

from __future__ import annotations

from datetime import UTC, datetime


def parse_instant(value: object) -> object:
    """Return epoch ms of a number or of ISO 8601, which is UTC unless it says otherwise. Raises `ValueError`."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.isascii() and text.isdecimal() and len(text) <= 15:
        return int(text)
    try:
        # A `+` in a query that nobody escaped comes as a blank.
        instant = datetime.fromisoformat(text.replace(" ", "+", 1) if "T" in text else text)
    except ValueError:
        raise ValueError("Input should be epoch milliseconds or ISO 8601 such as 2026-11-24T07:00:00Z") from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return round(instant.timestamp() * 1_000)
