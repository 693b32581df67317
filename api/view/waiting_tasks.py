"""Waiting tasks as the view knows them: one by its id, those of an object, and all, in the order in which they are due.

Only the number of tasks of each kind and reason is in memory. Long scans let other requests run: after a number of rows
they yield to the event loop, then seek to their position again, because no iterator may outlive the store.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import heapq
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from api.view.waiting_rows import (
    DUE_BYTES,
    ID_PREFIX,
    STARTED_PREFIX,
    TASK_PREFIX,
    due_bytes,
    id_prefix,
    order_prefix,
    parts_of,
    table_prefix,
    task_of,
)
from app.rules.counts import OTHERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from api.view.store import ViewStore
    from api.view.waiting_rows import Order, WaitingRows
    from app.rules.waiting_summaries import WaitingFilter, WaitingSummary

_MAX_POSITION_BYTES = 2_000
"""A row that waits for a key has kind and key in it: 64 and 200 characters of up to 4 bytes."""
_BASE64_GROUP = 4
_ROWS_A_TURN = 500
"""About 5 ms: longer would make other requests wait."""


class WaitingTask(NamedTuple):
    """A waiting task, and its row: queue, partition, key in the table. `has_started`: its attempt has begun."""

    task: WaitingSummary
    queue: str
    partition: int
    row: bytes
    has_started: bool


class WaitingGroup(NamedTuple):
    """How many tasks of a kind wait for a reason, and when the first one is due; None: not for an instant."""

    kind: str
    reason: str
    waiting_count: int
    next_due_at_ms: int | None


class WaitingList:
    """Reads waiting tasks of all queues from the store that `opened` returns; without a store it raises `ViewBehind`.

    `catch_up` waits until everything is read that waits now; raises `ViewBehind` if the view is not there in time.
    """

    def __init__(
        self, opened: Callable[[], ViewStore], rows: WaitingRows, catch_up: Callable[[], Awaitable[None]]
    ) -> None:
        self._opened = opened
        self._rows = rows
        self.catch_up = catch_up

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits in the table."""
        return not self._rows.counts

    def task(self, task_id: str) -> WaitingTask | None:
        """Return what a task waits for, None if it does not wait in the table."""
        prefix = id_prefix(task_id)
        found = self._look_up([key[len(prefix) :] for key in self._opened().oldest_first(prefix, prefix)])
        # After a redrive there may be two: the one that is due first is next.
        return min(found, key=lambda one: one.task.due_at_ms, default=None)

    async def _of_object(self, object_id: str) -> list[WaitingTask]:
        """Return the waiting tasks of an object, the one that is due first in front: it has at most 10,000 or so.

        Objects whose ids begin alike may have tasks among them: an object may be called `a-1`, as a task of `a`.
        """
        prefix = ID_PREFIX + object_id.encode() + b"-"
        found: list[WaitingTask] = []
        start = prefix
        while True:
            keys = list(islice(self._opened().oldest_first(prefix, start), _ROWS_A_TURN))
            found += self._look_up([key[key.index(b"\0") + 1 :] for key in keys])
            if len(keys) < _ROWS_A_TURN:
                return sorted(found, key=_position_of)
            start = keys[-1] + b"\0"
            await asyncio.sleep(0)

    async def page(
        self, wanted: WaitingFilter, limit: int, after: bytes | None = None
    ) -> tuple[list[WaitingTask], bytes | None]:
        """Return at most `limit` tasks after a position, and the position to continue from if there are more."""
        if wanted.object_id is not None:
            tasks = [one for one in await self._of_object(wanted.object_id) if wanted.takes(one.task)]
            found = [one for one in tasks if after is None or _position_of(one) > after]
        else:
            found = await self._next(wanted, limit + 1, after)
        more = len(found) > limit
        return found[:limit], _position_of(found[limit - 1]) if more else None

    async def groups(self, wanted: WaitingFilter) -> list[WaitingGroup]:
        """Return how many tasks wait by kind and reason; the group that is due next comes first."""
        if wanted.object_id is not None:
            return _grouped([one for one in await self._of_object(wanted.object_id) if wanted.takes(one.task)])
        found: list[WaitingGroup] = []
        self._opened()
        for number, (kind, reason) in enumerate(self._orders(wanted)):
            first = next(self._order((kind, reason), None), None)
            due_at_ms = 0 if first is None else int.from_bytes(first[:DUE_BYTES], "big")
            found.append(WaitingGroup(kind, reason, self._rows.counts.get((kind, reason), 0), due_at_ms or None))
            if number % _ROWS_A_TURN == _ROWS_A_TURN - 1:
                await asyncio.sleep(0)
        return _by_due_time(found)

    async def _next(self, wanted: WaitingFilter, count: int, after: bytes | None) -> list[WaitingTask]:
        found: list[WaitingTask] = []
        row_count = min(count, _ROWS_A_TURN)
        while True:
            self._opened()  # without a store there is not even an empty list
            orders = [self._order(order, after) for order in self._orders(wanted)]
            positions = list(islice(heapq.merge(*orders), row_count))
            tasks = self._look_up([position[DUE_BYTES:] for position in positions])
            found += [one for one in tasks if wanted.takes(one.task)]
            if len(found) >= count or len(positions) < row_count:
                return found[:count]
            after = positions[-1]
            await asyncio.sleep(0)

    def _orders(self, wanted: WaitingFilter) -> list[Order]:
        return [
            (kind, reason)
            for kind, reason in self._rows.counts
            if (wanted.kind in {None, kind} or kind == OTHERS) and wanted.reason in {None, reason}
        ]

    def _order(self, order: Order, after: bytes | None) -> Iterator[bytes]:
        """Yield the positions (due time, place of the row) of a kind and reason, those after `after`."""
        prefix = order_prefix(order)
        floor = due_bytes(self._rows.floors.get(order, 0))
        is_from_floor = after is None or after < floor
        start = floor if is_from_floor else after or b""
        # After the last one there are only deleted keys, which would be skipped one by one.
        keys = islice(self._opened().oldest_first(prefix, prefix + start), self._rows.counts.get(order, 0) + 1)
        for key in keys:
            position = key[len(prefix) :]
            if is_from_floor:
                self._rows.floors[order] = int.from_bytes(position[:DUE_BYTES], "big")
                is_from_floor = False
            if position != after:
                yield position

    def _look_up(self, places: list[bytes]) -> list[WaitingTask]:
        if not places:
            return []
        get_many = self._opened().get_many
        rows = get_many([TASK_PREFIX + place for place in places])
        begun = get_many([STARTED_PREFIX + place for place in places])
        return [
            WaitingTask(task_of(row), *parts_of(place), mark is not None)
            for place, row, mark in zip(places, rows, begun, strict=True)
            if row is not None
        ]


def position_text(position: bytes) -> str:
    """Return a position as clients send it back."""
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


def parse_position(text: str) -> bytes | None:
    """Undo `position_text`; None for any other text."""
    try:
        position = base64.b64decode(text + "=" * (-len(text) % _BASE64_GROUP), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return position if DUE_BYTES < len(position) <= _MAX_POSITION_BYTES else None


def _position_of(one: WaitingTask) -> bytes:
    return due_bytes(one.task.due_at_ms) + table_prefix(one.queue, one.partition) + one.row


def _grouped(tasks: list[WaitingTask]) -> list[WaitingGroup]:
    groups: dict[Order, WaitingGroup] = {}
    for one in tasks:
        order = (one.task.kind, one.task.reason)
        # In the order in which they are due, so the first one of a group is its next.
        known = groups.get(order, WaitingGroup(*order, 0, one.task.due_at_ms or None))
        groups[order] = known._replace(waiting_count=known.waiting_count + 1)
    return _by_due_time(list(groups.values()))


def _by_due_time(groups: list[WaitingGroup]) -> list[WaitingGroup]:
    return sorted(groups, key=lambda one: (one.next_due_at_ms is None, one.next_due_at_ms, one.kind, one.reason))
