"""Records for the read view, as its consumer hands them out."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """A record as a consumer hands it out."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()
