"""The items of an object, as one JSON text: what a split returns may come out of another process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Iterable
from typing import Any

import msgspec

from ebs.delays import why_no_start
from ebs.encoding import encode_json
from ebs.errors import Reject
from ebs.item import Item
from ebs.task import why_no_key

MAX_SPLIT_BYTES = 16 << 20
"""Of all items of an object, as JSON: they are sent in one transaction."""
MAX_ITEM_BYTES = 1_000_000
"""Of one item: it travels in one request."""
MAX_ITEMS = 10_000
"""EBS_MAX_TASKS_PER_OBJECT cannot be higher."""

_skim = msgspec.json.Decoder(msgspec.Raw).decode


def pieces_of_split(returned: Any, function: str) -> msgspec.Raw:
    """Return what a split has returned as `pieces_of` does; raises `Reject`."""
    if not is_list_like(returned):
        raise Reject(
            f"the split {function} returned a {type(returned).__name__}: return or yield the content of each task, "
            "in a list (an empty one is allowed)"
        )
    return pieces_of(returned, f"the split {function}")


def is_list_like(items: Any) -> bool:
    """Return whether this has one item after the other; a text or a dict is taken for one item."""
    return isinstance(items, Iterable) and not isinstance(items, str | bytes | dict)


def pieces_of(items: Iterable[Any], giver: str) -> msgspec.Raw:
    """Return items as a JSON list of objects with `content` and `name`; raises `Reject`, which names the giver."""
    pieces = _Pieces(giver)
    for one in items:
        pieces.add(one)
    return pieces.joined()


async def pieces_from(yielded: AsyncIterable[Any], giver: str) -> msgspec.Raw:
    """Return the items of an async generator as `pieces_of` does."""
    pieces = _Pieces(giver)
    async for one in yielded:
        pieces.add(one)
    return pieces.joined()


class _Pieces:
    """Encodes each item as it comes: a split that never ends must not fill the memory."""

    def __init__(self, giver: str) -> None:
        self._giver = giver
        self._pieces: list[bytes] = []
        self._size_bytes = 0

    def add(self, one: Any) -> None:
        number = len(self._pieces)
        if number == MAX_ITEMS:
            raise Reject(
                f"{self._giver} has more than {MAX_ITEMS:,} items: put several into one, or submit several objects"
            )
        piece = self._encoded(one if isinstance(one, Item) else Item(one), number)
        if len(piece) > MAX_ITEM_BYTES:
            raise Reject(
                f"item {number} of {self._giver} has {len(piece):,} bytes, at most {MAX_ITEM_BYTES:,} fit "
                "into a task: return a reference instead of the data"
            )
        self._size_bytes += len(piece) + 1
        if self._size_bytes > MAX_SPLIT_BYTES:
            raise Reject(
                f"the items of {self._giver} have more than {MAX_SPLIT_BYTES:,} bytes together: return "
                "references instead of the data"
            )
        self._pieces.append(piece)

    def joined(self) -> msgspec.Raw:
        return msgspec.Raw(b"[" + b",".join(self._pieces) + b"]")

    def _encoded(self, item: Item, number: int) -> bytes:
        wrong_start = why_no_start(item.delay_s, item.due_at, time.time())
        if wrong_start is not None:
            raise Reject(f"item {number} of {self._giver} cannot start: {wrong_start}")
        wrong_key = why_no_key(item.key)
        if wrong_key is not None:
            raise Reject(f"item {number} of {self._giver}: {wrong_key}")
        why = None if isinstance(item.name, str | None) else f"its name is a {type(item.name).__name__}, not a text"
        try:
            piece = encode_json(item)
            if isinstance(item.content, msgspec.Raw):
                _skim(item.content)  # it was copied without a look at it, and could go on after the end of its value
        except Exception as error:  # noqa: BLE001  # whatever the items' classes raise
            why = str(error)
        if why is not None:
            content = type(item.content).__name__
            raise Reject(f"item {number} of {self._giver}, a {content}, cannot be sent as JSON: {why}")
        return piece
