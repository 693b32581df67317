"""A record on its way out."""

from __future__ import annotations

from typing import NamedTuple


class Outgoing(NamedTuple):
    """A record to write, in the order of `Step.send`."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] | None = None
