"""How rows of the table `waiting` become rows of the view: what waits, the order in which it is due, and counts.

Keys begin with `t` (numbers are big-endian; *place*: the queue, NUL, the partition, and the row's key in the table):

    tr place                                 the task (`WaitingSummary`), and the name under which it is ordered
    ts place                                 nothing: its attempt has begun
    to kind NUL reason NUL due time, place   nothing: the order of one kind and reason
    ti task id NUL place                     nothing: finds the rows of a task, and of an object
    tc kind NUL reason                       how many there are

A task whose kind is one too many for the index (`MAX_KINDS`) is ordered and counted under `OTHERS`. All rows are
written in the batch that also writes the view's offsets, so each counts once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from api.view.object_index import PARTITION_BYTES, partition_bytes
from app.rules.counts import MAX_KINDS, OTHERS
from app.rules.waiting_rows import STARTED
from app.rules.waiting_summaries import WaitingSummary, summary_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.view.store import ViewStore
    from api.view.write import Write

TASK_PREFIX = b"tr"
STARTED_PREFIX = b"ts"
_ORDER_PREFIX = b"to"
ID_PREFIX = b"ti"
_COUNT_PREFIX = b"tc"
DUE_BYTES = 8
_COUNT_BYTES = 8

Order = tuple[str, str]
"""A kind, or `OTHERS`, and a reason."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[WaitingSummary, str]).decode


class WaitingRows:
    """Keeps the rows; `counts` has how many there are in each order, those that run included. Fed by `View`.

    `floors` has by order a due time that no row is below: what was deleted lies there, and would be skipped one by one.
    """

    def __init__(self, max_kinds: int = MAX_KINDS) -> None:
        self.counts: dict[Order, int] = {}
        self.floors: dict[Order, int] = {}
        self._kinds: set[str] = set()
        self._max_kinds = max_kinds

    def load(self, store: ViewStore) -> None:
        """Start with the rows of a store."""
        self.floors.clear()
        self.counts.clear()
        for key, value in store.newest_first(_COUNT_PREFIX):
            kind, reason = key[len(_COUNT_PREFIX) :].decode().split("\0")
            self.counts[kind, reason] = int.from_bytes(value, "big")
        self._kinds = {kind for kind, _ in self.counts} - {OTHERS}

    def add(self, queue: str, write: Write, partition: int, records: Sequence[Any]) -> None:
        """Take in rows of a partition of a queue, and tombstones: of each row the last word counts."""
        packed = table_prefix(queue, partition)
        latest = {record.key: record.value for record in records}
        places = []
        for key, value in latest.items():
            if key[:1] == STARTED:
                write.set(STARTED_PREFIX + packed + key[1:], value)
            else:
                places.append(packed + key)
        moved: dict[Order, int] = {}
        known = write.get_many([TASK_PREFIX + place for place in places]) if places else []
        for place, old in zip(places, known, strict=True):
            if old is not None:
                order = self._remove(write.batch, place, *_decode(old))
                moved[order] = moved.get(order, 0) - 1
            key = place[len(packed) :]
            value = latest[key]
            task = None if value is None else summary_of(key, value)
            if task is not None:
                order = self._put(write.batch, place, task)
                moved[order] = moved.get(order, 0) + 1
        for order, change in moved.items():
            self._count(write.batch, order, change)

    def _put(self, batch: Any, place: bytes, task: WaitingSummary) -> Order:
        name = task.kind.replace("\0", "?")
        order = (name, task.reason)
        if name not in self._kinds:
            if len(self._kinds) < self._max_kinds:
                self._kinds.add(name)
            else:
                order = (OTHERS, task.reason)
        batch.put(TASK_PREFIX + place, _encode((task, order[0])))
        batch.put(order_key(order, task.due_at_ms, place), b"")
        batch.put(id_prefix(task.task_id) + place, b"")
        if task.due_at_ms < self.floors.get(order, 0):
            self.floors[order] = task.due_at_ms
        return order

    def _remove(self, batch: Any, place: bytes, task: WaitingSummary, name: str) -> Order:
        order = (name, task.reason)
        batch.delete(TASK_PREFIX + place)
        batch.delete(order_key(order, task.due_at_ms, place))
        batch.delete(id_prefix(task.task_id) + place)
        return order

    def _count(self, batch: Any, order: Order, change: int) -> None:
        count = self.counts.get(order, 0) + change
        key = _COUNT_PREFIX + "\0".join(order).encode()
        if count > 0:
            self.counts[order] = count
            batch.put(key, count.to_bytes(_COUNT_BYTES, "big"))
        else:
            self.counts.pop(order, None)
            self.floors.pop(order, None)
            self._kinds = {kind for kind, _ in self.counts} - {OTHERS}
            batch.delete(key)


def table_prefix(queue: str, partition: int) -> bytes:
    """Return how the places begin of the rows in a partition of a queue."""
    # The name of the queue, not its number: a store outlives the list of queues.
    return queue.encode() + b"\0" + partition_bytes(partition)


def parts_of(place: bytes) -> tuple[str, int, bytes]:
    """Return the queue of a place, the partition, and the row's key in the table."""
    queue, _, rest = place.partition(b"\0")
    return queue.decode(), int.from_bytes(rest[:PARTITION_BYTES], "big"), rest[PARTITION_BYTES:]


def task_of(row: bytes) -> WaitingSummary:
    """Return the task of a stored row."""
    return _decode(row)[0]


@lru_cache(maxsize=1_024)
def order_prefix(order: Order) -> bytes:
    """Return how the keys begin that order the tasks of a kind and reason."""
    return _ORDER_PREFIX + f"{order[0]}\0{order[1]}\0".encode()


def order_key(order: Order, due_at_ms: int, place: bytes) -> bytes:
    """Return the key that orders a task."""
    return order_prefix(order) + due_bytes(due_at_ms) + place


def due_bytes(due_at_ms: int) -> bytes:
    """Return a due time as it is written in keys."""
    return due_at_ms.to_bytes(DUE_BYTES, "big")


def id_prefix(task_id: str) -> bytes:
    """Return how the keys begin that find the rows of a task."""
    return ID_PREFIX + task_id.encode() + b"\0"
