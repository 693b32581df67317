"""Objects newest first, page by page, from the index (`api.view.object_index`).

A page costs one read for each kind and state that has objects, and one for each object on the page, however many
objects exist. A cursor is a position in the order, so new objects neither shift nor repeat entries. A page of a kind
may be short if the index has several kinds under one name, because objects of other kinds are left out. So may a page
of an object's children (`api.view.children`), which have one order for all kinds and states.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import heapq
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from api.view.children import children_count, children_prefix
from api.view.object_index import TIME_BYTES, order_prefix, time_bytes
from api.view.rows import RECORD_PREFIX, ROW_PREFIX
from app.rules.counts import OTHERS
from app.rules.ledger_rows import ObjectRow, decode_row
from app.rules.ledger_states import state_of_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.view.object_index import ObjectIndex
    from api.view.store import ViewStore
    from app.rules.ledger_states import ObjectState

_OBJECTS_A_TURN = 25
"""About 1 ms: longer would make other requests wait."""
_MAX_ID_BYTES = 800
_BASE64_GROUP = 4


class Wanted(NamedTuple):
    """Which objects are meant; instants are epoch ms, the first one inclusive, the second one exclusive."""

    states: frozenset[ObjectState] = frozenset()
    kind: str | None = None
    created_after_ms: int | None = None
    created_before_ms: int | None = None
    parent: str | None = None


class Listed(NamedTuple):
    """An object in a list; `name` is None where the topic's retention took its record."""

    object_id: str
    created_at_ms: int
    name: str | None
    row: ObjectRow


class ObjectListPage(NamedTuple):
    """Objects newest first, and the place to go on from if there are more."""

    objects: list[Listed]
    next_place: bytes | None


class _Record(msgspec.Struct, frozen=True, gc=False):
    """The fields of an object's record for lists; the content is not decoded, because it may be large."""

    name: str
    kind: str = "default"
    task_count: int | None = None


class _Items(msgspec.Struct, frozen=True, gc=False):
    """The items of an object's record, which are only counted."""

    items: list[msgspec.Raw] = []


_decode_record = msgspec.json.Decoder(_Record).decode
_decode_items = msgspec.json.Decoder(_Items).decode


class ObjectList:
    """Reads lists from the store that `opened` returns; without a store `opened` raises `ViewBehind`."""

    def __init__(self, opened: Callable[[], ViewStore], index: ObjectIndex) -> None:
        self._opened = opened
        self._index = index

    async def page(self, wanted: Wanted, limit: int, after: bytes | None = None) -> ObjectListPage:
        """Return at most `limit` objects after a place (`next_place` of the previous page)."""
        self._opened()  # without a store there is not even an empty list
        places = self._places(wanted, limit + 1, after)
        more = len(places) > limit
        places = places[:limit]
        objects: list[Listed] = []
        for start in range(0, len(places), _OBJECTS_A_TURN):
            if start:
                await asyncio.sleep(0)
            objects += self._look_up(places[start : start + _OBJECTS_A_TURN], wanted)
        return ObjectListPage(objects, places[-1] if more else None)

    def children_count(self, object_id: str) -> int:
        """Return how many objects the tasks of an object have submitted, up to a limit (`api.view.children`)."""
        return children_count(self._opened(), object_id)

    def counts(self, kind: str | None) -> dict[ObjectState, int]:
        """Return how many objects there are by state, of a kind or of all."""
        counts: dict[ObjectState, int] = {}
        for (one, state), count in self._index.counts.items():
            if kind in {None, one}:
                counts[state] = counts.get(state, 0) + count
        return counts

    def counts_by_kind(self) -> dict[str, dict[ObjectState, int]]:
        """Return how many objects there are by kind and state."""
        counts: dict[str, dict[ObjectState, int]] = {}
        for (kind, state), count in self._index.counts.items():
            counts.setdefault(kind, {})[state] = count
        return counts

    def _places(self, wanted: Wanted, count: int, after: bytes | None) -> list[bytes]:
        """Return places (time, object id), newest first."""
        self._opened()  # an index without a store is empty, which is no answer
        if wanted.parent is not None:
            return list(islice(self._order(children_prefix(wanted.parent), None, wanted, after), count))
        orders = [
            self._order(order_prefix(kind, state), known, wanted, after)
            for (kind, state), known in self._index.counts.items()
            if (wanted.kind in {None, kind} or kind == OTHERS) and (not wanted.states or state in wanted.states)
        ]
        return list(islice(heapq.merge(*orders, reverse=True), count))

    def _order(self, prefix: bytes, count: int | None, wanted: Wanted, after: bytes | None) -> Iterator[bytes]:
        bounds = [] if after is None else [after]
        if wanted.created_before_ms is not None:
            bounds.append(time_bytes(wanted.created_before_ms))
        before = prefix + min(bounds) if bounds else b""
        # After the last object there are only deleted keys, which would be skipped one by one.
        rows = islice(self._opened().newest_first(prefix, before), count)
        places = (key[len(prefix) :] for key, _ in rows)
        if wanted.created_after_ms is None:
            return places
        oldest = time_bytes(wanted.created_after_ms)
        return takewhile(lambda place: place >= oldest, places)

    def _look_up(self, places: list[bytes], wanted: Wanted) -> list[Listed]:
        ids = [place[TIME_BYTES:] for place in places]
        get_many = self._opened().get_many
        rows = get_many([ROW_PREFIX + object_id for object_id in ids])
        records = get_many([RECORD_PREFIX + object_id for object_id in ids])
        found: list[Listed] = []
        for place, data, record in zip(places, rows, records, strict=True):
            told = None if record is None else _decode_record(record)
            created_at_ms = int.from_bytes(place[:TIME_BYTES], "big")
            if data is not None:
                row = decode_row(data)
            elif record is not None and told is not None:
                task_count = told.task_count or len(_decode_items(record).items)
                row = ObjectRow(kind=told.kind, task_count=task_count, created_at_ms=created_at_ms)
            else:
                continue  # expired since its place was read
            # It may have moved on since then; a list of one state shows no other.
            is_of_kind = wanted.kind in {None, OTHERS, row.kind}
            if is_of_kind and (not wanted.states or state_of_object(row) in wanted.states):
                name = None if told is None else told.name
                found.append(Listed(place[TIME_BYTES:].decode(), created_at_ms, name, row))
        return found


def place_text(place: bytes) -> str:
    """Return a place as clients send it back."""
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def parse_place(text: str) -> bytes | None:
    """Undo `place_text`; None for any other text."""
    try:
        place = base64.b64decode(text + "=" * (-len(text) % _BASE64_GROUP), altchars=b"-_", validate=True)
        place[TIME_BYTES:].decode()
    except (binascii.Error, ValueError):
        return None
    return place if TIME_BYTES < len(place) <= TIME_BYTES + _MAX_ID_BYTES else None
