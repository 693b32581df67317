"""The items of an object, as one JSON text: what a split returns may come out of another process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ebs.errors import Reject
from ebs.item import Item

MAX_SPLIT_BYTES = 16 << 20
"""Of all items of an object, as JSON: they are sent in one transaction."""
MAX_ITEM_BYTES = 1_000_000
"""Of one item: it travels in one request."""

_encode = msgspec.json.Encoder().encode


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
    pieces, size = [], 0
    for number, one in enumerate(items):
        item = one if isinstance(one, Item) else Item(one)
        try:
            piece = _encode(item)
        except Exception as error:
            raise Reject(f"item {number} of {giver}, of type {type(one).__name__}, is not JSON: {error}") from error
        if len(piece) > MAX_ITEM_BYTES:
            raise Reject(
                f"item {number} of {giver} has {len(piece):,} bytes, at most {MAX_ITEM_BYTES:,} fit into "
                "a task: return a reference instead of the data"
            )
        size += len(piece) + 1
        if size > MAX_SPLIT_BYTES:
            raise Reject(
                f"the items of {giver} have more than {MAX_SPLIT_BYTES:,} bytes together: return "
                "references instead of the data"
            )
        pieces.append(piece)
    return msgspec.Raw(b"[" + b",".join(pieces) + b"]")
