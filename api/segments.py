"""How what people and producers named stands in a path: as one segment, whatever characters it has."""

from __future__ import annotations

from urllib.parse import quote

_DOTS = frozenset({".", ".."})


def segment(text: str) -> str:
    """Return a text as a segment of a path; clients would take the dots of `.` and `..` for steps between folders."""
    return text.replace(".", "%2E") if text in _DOTS else quote(text, safe="")
