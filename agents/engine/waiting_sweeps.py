"""Carries out the commands about waiting tasks, cancels and starts, once in each lane.

A command stays in force, so the next owner of a lane carries it out again. Rows that were changed before no longer
match the command; all other rows are as they were.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import UNSET

from app.rules.commands import Cancel, CancelWaiting, StartTask, StartWaiting
from app.rules.waiting_rows import TIMED_REASONS, decode_row, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agents.engine.lane import Lane, Ready
    from agents.engine.worker_lanes import WorkerLanes
    from app.rules.commands import CommandKey, OfWaiting
    from app.rules.control import ControlState

    ReadRow = Callable[[Lane, bytes, bytes], Ready | None]
    """Returns the task of a row, None if it cannot be read: then it went to the dead letters."""

_ROWS_A_COMMIT = 1_000
"""Rows that may change before their commit is awaited: until then their requests are in memory."""

Asked = frozenset[tuple["CommandKey", int]]
"""Commands: the key, and for an order also when it was given, as an order that is repeated means later tasks, too."""


async def visit_rows(lanes: WorkerLanes, lane: Lane, visit: Callable[[bytes, bytes], bool]) -> int:
    """Visit the waiting tasks of a lane that do not run, until the lane is lost; returns how many rows changed.

    `visit` gets a row's key and value and returns whether it changed the row. The changes are committed in parts.
    """
    assert lane.window is not None
    changed_count = uncommitted_count = 0
    batches = lane.window.batches()
    while not lane.lost and (rows := next(batches, None)) is not None:
        changed = sum(visit(key, value) for key, value in rows)
        changed_count += changed
        uncommitted_count += changed
        if uncommitted_count < _ROWS_A_COMMIT:
            await asyncio.sleep(0)
        else:
            uncommitted_count = 0
            await lanes.note(lane)
    return changed_count


class Canceller(Protocol):
    """Ends tasks that wait; whoever waited for them goes on."""

    def cancel(self, ready: Ready) -> None:
        """End a task."""

    def cancel_where(self, is_meant: Callable[[Ready], bool]) -> None:
        """End tasks that wait in memory."""


class Orders(NamedTuple):
    """What a lane still has to carry out. `has_cancels`: ask `ControlState.is_cancelled` about each task."""

    has_cancels: bool
    of_rows: list[StartTask]
    filters: list[OfWaiting]


class WaitingSweeps:
    """Finds the waiting tasks that a command is about, lane by lane."""

    def __init__(
        self,
        lanes: WorkerLanes,
        control: ControlState,
        *,
        read: ReadRow,
        hasten: Callable[[Lane, bytes, int], bool],
    ) -> None:
        """`hasten` makes a row due at an instant, and returns whether that changed it."""
        self._lanes = lanes
        self._control = control
        self._read = read
        self._hasten = hasten
        self._asked: Asked = frozenset()
        self._done: dict[Lane, Asked] = {}
        self._sweeping: asyncio.Task[None] | None = None

    def open(self, lane: Lane) -> None:
        """Add a lane; the next `control_changed` carries out all commands in it."""
        self._done[lane] = frozenset()

    def close(self, lane: Lane) -> None:
        """Remove a lane."""
        self._done.pop(lane, None)

    def control_changed(self, canceller: Canceller) -> None:
        """Carry out the new commands in all lanes, and all commands in new lanes."""
        orders = self._control.orders()
        self._asked = frozenset((key, 0) for key in self._control.cancel_keys()) | frozenset(
            (key, order.at_ms) for key, order in orders.items()
        )
        if self._next() is not None and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.create_task(self._sweep_all(canceller))

    def _next(self) -> Lane | None:
        """Return a lane that still has commands to carry out, None if there is none."""
        return next((lane for lane, done in self._done.items() if not self._asked <= done), None)

    async def _sweep_all(self, canceller: Canceller) -> None:
        try:
            while (lane := self._next()) is not None:
                asked = self._asked
                await self._sweep(lane, self._orders(asked - self._done[lane]), canceller)
                if lane in self._done:
                    self._done[lane] = asked
        except Exception as error:  # noqa: BLE001  # nobody awaits it
            self._lanes.transactions.fatal(error)

    def _orders(self, new: Iterable[tuple[CommandKey, int]]) -> Orders:
        commands = [self._control.command_at(key) for key, _ in new]
        return Orders(
            any(isinstance(one, Cancel) for one in commands),
            [one for one in commands if isinstance(one, StartTask)],
            [one for one in commands if isinstance(one, StartWaiting | CancelWaiting)],
        )

    async def _sweep(self, lane: Lane, orders: Orders, canceller: Canceller) -> None:
        for order in orders.of_rows:
            self._start_row(lane, order)
        if not (orders.has_cancels or orders.filters):
            return

        def carry_out(key: bytes, value: bytes) -> bool:
            ready = self._read(lane, key, value)
            return ready is None or self._carry_out(ready, value, orders, canceller)

        self._cancel_loaded(lane, orders, canceller)
        await visit_rows(self._lanes, lane, carry_out)
        # Meanwhile lines may have taken more rows into memory.
        self._cancel_loaded(lane, orders, canceller)

    def _cancel_loaded(self, lane: Lane, orders: Orders, canceller: Canceller) -> None:
        """Cancel the rows that a filter means and that wait in memory: the window passes over them."""
        window, cancels = lane.window, [one for one in orders.filters if isinstance(one, CancelWaiting)]
        assert window is not None

        def is_meant(ready: Ready) -> bool:
            key, task = ready.place, ready.task
            if ready.lane is not lane or not isinstance(key, bytes):
                return False
            return any(_means(one, key, window.content_of(key), task.kind, task.object_id) for one in cancels)

        if cancels:
            canceller.cancel_where(is_meant)

    def _start_row(self, lane: Lane, order: StartTask) -> None:
        if order.partition != lane.partition.number:
            return
        assert lane.window is not None
        value = lane.window.value_of(order.row)
        ready = None if value is None else self._read(lane, order.row, value)
        if ready is not None and ready.task.task_id == order.task_id:
            self._hasten(lane, order.row, order.at_ms)

    def _carry_out(self, ready: Ready, value: bytes, orders: Orders, canceller: Canceller) -> bool:
        """Carry out the orders about a waiting task; returns whether its row changed."""
        lane, _, task, key = ready
        assert isinstance(key, bytes)
        if orders.has_cancels and self._control.is_cancelled(task) is not None:
            canceller.cancel(ready)
            return True
        meant = [one for one in orders.filters if _means(one, key, value, task.kind, task.object_id)]
        if any(isinstance(one, CancelWaiting) for one in meant):
            canceller.cancel(ready)
            return True
        if meant and reason_of(key) in TIMED_REASONS:
            return self._hasten(lane, key, max(one.at_ms for one in meant))
        return False


def _means(order: OfWaiting, key: bytes, value: bytes, kind: str, object_id: str) -> bool:
    return (
        order.kind in {UNSET, kind}
        and order.object_id in {UNSET, object_id}
        and order.reason in {UNSET, reason_of(key)}
        and decode_row(value).since_ms <= order.at_ms
    )
