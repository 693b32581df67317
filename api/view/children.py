"""Which objects were submitted by tasks of other objects: a row for each, in the order of time under its parent."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from api.view.object_index import time_bytes
from app.events import Instant, ObjectCreated, Parent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.view.store import ViewStore

MAX_COUNTED = 1_000
"""Children that are counted for one answer; of more it is only known that there are more."""

_PREFIX = b"s"
_LENGTH_BYTES = 2
_PARENT_FIELD = b'"parent"'


class _Record(msgspec.Struct, frozen=True, gc=False):
    """The parent in a record of `objects`; the content is not decoded, because it may be large."""

    object_id: str
    at_ms: Instant
    parent: Parent | msgspec.UnsetType = UNSET


_decode_record = msgspec.json.Decoder(_Record).decode


def children_prefix(parent_id: str) -> bytes:
    """Return how the keys of an object's children begin: time and id follow."""
    packed = parent_id.encode()
    # The key begins with the length of the id, so no other object's children come between them.
    return _PREFIX + len(packed).to_bytes(_LENGTH_BYTES, "big") + packed


def child_key(child: ObjectCreated | _Record) -> bytes | None:
    """Return the key of an object under its parent, None if it has none."""
    if child.parent is UNSET:
        return None
    return children_prefix(child.parent.object_id) + time_bytes(child.at_ms) + child.object_id.encode()


def child_keys_of(records: Sequence[bytes | None]) -> list[bytes]:
    """Return the keys of the objects that have a parent, from their records on the topic."""
    keys = [child_key(_decode_record(one)) for one in records if one is not None and _PARENT_FIELD in one]
    return [key for key in keys if key is not None]


def children_count(store: ViewStore, parent_id: str) -> int:
    """Return how many objects the tasks of an object have submitted, `MAX_COUNTED` at most."""
    return sum(1 for _ in islice(store.newest_first(children_prefix(parent_id)), MAX_COUNTED))
