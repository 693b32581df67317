"""Names of people and producers as one segment of a path, whatever characters they have."""

from __future__ import annotations

from urllib.parse import quote

_DOTS = frozenset({".", ".."})


def segment(text: str) -> str:
    """Return a text as a segment of a path; clients would take the dots of `.` and `..` for steps between folders."""
    return text.replace(".", "%2E") if text in _DOTS else quote(text, safe="")


def api_path(*parts: str) -> str:
    """Return the path of these parts under `/api`, whatever characters an id has. Raises `ValueError` for an empty one.

    A path without the part would name something else: the list instead of one of its members.
    """
    if "" in parts:
        raise ValueError("a part of the path is empty")
    return "/api/" + "/".join(map(segment, parts))
