"""What a split function returns, as one JSON text: it may come out of another process."""

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


def pieces_of(returned: Any, function: str) -> msgspec.Raw:
    """Return the items of a split as a JSON list of objects with `content` and `name`; raises `Reject`."""
    if not isinstance(returned, Iterable) or isinstance(returned, str | bytes | dict):
        raise Reject(
            f"the split {function} returned a {type(returned).__name__}: return or yield the content of each task, "
            "in a list (an empty one is allowed)"
        )
    pieces, size = [], 0
    for number, one in enumerate(returned):
        item = one if isinstance(one, Item) else Item(one)
        try:
            piece = _encode(item)
        except Exception as error:
            raise Reject(
                f"item {number} of the split {function}, of type {type(one).__name__}, is not JSON: {error}"
            ) from error
        if len(piece) > MAX_ITEM_BYTES:
            raise Reject(
                f"item {number} of the split {function} has {len(piece):,} bytes, at most {MAX_ITEM_BYTES:,} fit into "
                "a task: return a reference instead of the data"
            )
        size += len(piece) + 1
        if size > MAX_SPLIT_BYTES:
            raise Reject(
                f"the items of the split {function} have more than {MAX_SPLIT_BYTES:,} bytes together: return "
                "references instead of the data"
            )
        pieces.append(piece)
    return msgspec.Raw(b"[" + b",".join(pieces) + b"]")
