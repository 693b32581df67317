"""A record on its way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from app.streaming.transactions import Headers


class Outgoing(NamedTuple):
    """A record to send with a step, in the order of `Step.send`."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None
