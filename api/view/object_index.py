"""The index of objects by kind, state and time, so that lists come newest first without a scan of all objects.

Keys (numbers are big-endian, so byte order is order of time; a state is its place in `STATES`):

    p  object id                            the object's place: state, partition, time of creation, kind
    i  kind, NUL, state, time, object id    nothing: the order of the objects of a kind in a state
    C  kind, NUL, state                     how many there are

A place says which key exists, so a change of state deletes exactly the key that was written before. All keys are
written in the batch that also writes the view's offsets. One order is enough: `counts` says which kinds and states have
objects, and a list of all kinds or states merges them. This is affordable for `MAX_KINDS` kinds. Objects of all further
kinds are under `OTHERS`, as in the statistics, because clients choose kinds freely.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from app.rules.counts import MAX_KINDS, OTHERS
from app.rules.ledger_rows import decode_row
from app.rules.ledger_states import ObjectState, state_of_object

if TYPE_CHECKING:
    from api.view.store import ViewStore

STATES = tuple(ObjectState)
"""In the order of an object's life; the index writes a state as its number here."""

PLACE_PREFIX = b"p"
_ORDER_PREFIX = b"i"
_COUNT_PREFIX = b"C"
TIME_BYTES = 6
PARTITION_BYTES = 2
_STATE_BYTES = tuple(bytes((number,)) for number in range(len(STATES)))
_OTHERS = OTHERS.encode()
_NUMBER_OF = {state: number for number, state in enumerate(STATES)}
_CREATED = _STATE_BYTES[0]
_AFTER_STATE = 1 + PARTITION_BYTES
_AFTER_TIME = _AFTER_STATE + TIME_BYTES


class IndexPosition(NamedTuple):
    """The place of an object in the index; `created_at_ms` is epoch ms, `partition` has all records of the object.

    `kind` may be `OTHERS`.
    """

    state: ObjectState
    partition: int
    created_at_ms: int
    kind: str


GetMany = Callable[[list[bytes]], "list[bytes | None]"]

Counts = dict[tuple[str, ObjectState], int]
"""How many objects there are by kind and state."""


class ObjectIndex:
    """Keeps the index; fed by `View`, one `change` a write."""

    def __init__(self, max_kinds: int = MAX_KINDS) -> None:
        self.counts: Counts = {}
        self._max_kinds = max_kinds
        self._kinds: set[bytes] = set()

    def load(self, store: ViewStore) -> None:
        """Start with the rows of a store."""
        self.counts = {}
        self._kinds.clear()
        for key, value in store.newest_first(_COUNT_PREFIX):
            kind = key[len(_COUNT_PREFIX) : -2].decode()
            self.counts[kind, STATES[key[-1]]] = int.from_bytes(value, "big")
            self._kinds.add(kind.encode())

    def write(self, batch: Any, changes: Changes, ids: list[bytes]) -> None:
        """Write the changes into the batch; `ids` are the ids of `changes`."""
        moved: defaultdict[tuple[bytes, int], int] = defaultdict(int)
        put, delete = batch.put, batch.delete
        for object_id, old in zip(ids, changes.places(ids), strict=True):
            new = changes.place_of(object_id, old)
            if new is not None and new[_AFTER_TIME:] not in self._kinds:
                new = self._named(new)
            if new == old:
                continue
            if old is not None:
                delete(_order_key(old, object_id))
                moved[old[_AFTER_TIME:], old[0]] -= 1
            if new is None:
                delete(PLACE_PREFIX + object_id)
                continue
            put(PLACE_PREFIX + object_id, new)
            put(_order_key(new, object_id), b"")
            moved[new[_AFTER_TIME:], new[0]] += 1
        for (kind, number), change in moved.items():
            if change:
                self._count(batch, kind, number, change)

    def _named(self, place: bytes) -> bytes:
        """Return the place with a kind that is in the index: its own, or `OTHERS` if the index has too many kinds."""
        if len(self._kinds) >= self._max_kinds:
            return place[:_AFTER_TIME] + _OTHERS
        self._kinds.add(place[_AFTER_TIME:])
        return place

    def _count(self, batch: Any, kind: bytes, number: int, change: int) -> None:
        name = (kind.decode(), STATES[number])
        count = self.counts.get(name, 0) + change
        key = _COUNT_PREFIX + kind + b"\0" + _STATE_BYTES[number]
        if count:
            self.counts[name] = count
            batch.put(key, count.to_bytes(8, "big"))
        else:
            self.counts.pop(name, None)
            batch.delete(key)


class Changes:
    """What one write of the view says of objects: the last word counts. `get_many` reads the store."""

    def __init__(self, get_many: GetMany) -> None:
        self._get_many = get_many
        self._places: dict[bytes, bytes | None] = {}
        self._created: dict[bytes, bytes] = {}
        self._rows: dict[bytes, tuple[bytes, bytes | None]] = {}
        self.buried: set[bytes] = set()
        """The objects that had a tombstone, whatever came after it."""

    @property
    def ids(self) -> list[bytes]:
        """The objects that something is said of."""
        return list(self._rows.keys() | self._created.keys())

    def places(self, ids: list[bytes]) -> list[bytes | None]:
        """Return the packed places that the store has of objects, None for each that it does not know at all."""
        known = self._places
        new = [one for one in ids if one not in known]
        if new:
            known.update(zip(new, self._get_many([PLACE_PREFIX + one for one in new]), strict=True))
        return [known[one] for one in ids]

    def add_created(self, object_id: bytes, partition: int, at_ms: int, kind: str) -> None:
        """Take in an object's record."""
        self._created[object_id] = _CREATED + partition_bytes(partition) + time_bytes(at_ms) + _kind_bytes(kind)

    def add_row(self, object_id: bytes, partition: bytes, row: bytes | None) -> None:
        """Take in a ledger row, or its tombstone; `partition` is packed (`partition_bytes`)."""
        self._rows[object_id] = (partition, row)
        if row is None:
            self._created.pop(object_id, None)
            self.buried.add(object_id)

    def has_row(self, object_id: bytes, place: bytes | None) -> bool:
        """Return whether an object of this place has something in the ledger after this write."""
        said = self._rows.get(object_id)
        return place is not None if said is None else said[1] is not None

    def place_of(self, object_id: bytes, old: bytes | None) -> bytes | None:
        """Return the packed place of an object now; `old` is its packed place before."""
        created = self._created.get(object_id)
        said = self._rows.get(object_id)
        if said is None:
            # Only its record came. A ledger row that was there before it tells more.
            return created if old is None else old
        partition, data = said
        if data is None:
            return created
        row = decode_row(data)
        created_at_ms = row.created_at_ms
        # Until OBJECT_CREATED is counted its record tells when it was, and without that its first task.
        known = None if created_at_ms else created or old
        if known is not None:
            at = known[_AFTER_STATE:_AFTER_TIME]
        else:
            at = time_bytes(
                created_at_ms or min((one.created_at_ms for one in row.tasks if one.created_at_ms), default=0)
            )
        return _STATE_BYTES[_NUMBER_OF[state_of_object(row)]] + partition + at + _kind_bytes(row.kind)


def unpack_place(data: bytes) -> IndexPosition:
    """Return a packed place."""
    return IndexPosition(
        STATES[data[0]],
        int.from_bytes(data[1:_AFTER_STATE], "big"),
        int.from_bytes(data[_AFTER_STATE:_AFTER_TIME], "big"),
        data[_AFTER_TIME:].decode(),
    )


def order_prefix(kind: str, state: ObjectState) -> bytes:
    """Return how the keys begin that order the objects of a kind in a state."""
    return _ORDER_PREFIX + _kind_bytes(kind) + b"\0" + _STATE_BYTES[_NUMBER_OF[state]]


def _order_key(place: bytes, object_id: bytes) -> bytes:
    return _ORDER_PREFIX + place[_AFTER_TIME:] + b"\0" + place[:1] + place[_AFTER_STATE:_AFTER_TIME] + object_id


@lru_cache(maxsize=1_024)
def _kind_bytes(kind: str) -> bytes:
    # A task's event may carry any kind; NUL ends it in the keys.
    return kind.encode().replace(b"\0", b"?")


def partition_bytes(partition: int) -> bytes:
    """Return a partition as it is written in a place."""
    return partition.to_bytes(PARTITION_BYTES, "big")


def time_bytes(at_ms: int) -> bytes:
    """Return an instant as it is written in a place and in keys."""
    return at_ms.to_bytes(TIME_BYTES, "big")
