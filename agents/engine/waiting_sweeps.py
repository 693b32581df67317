"""Carries out the commands about waiting tasks, cancels and starts, once in each lane.

A command stays in force, so the next owner of a lane carries it out again. Rows that were changed before no longer
match the command; all other rows are as they were.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

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


async def visit_rows(lanes: WorkerLanes, lane: Lane, read: ReadRow, visit: Callable[[Ready, bytes], bool]) -> None:
    """Visit the waiting tasks of a lane that do not run, each with the value of its row, until the lane is lost.

    `visit` returns whether it changed the row. The changes are committed in parts.
    """
    assert lane.window is not None
    changed_count = 0
    batches = lane.window.batches()
    while not lane.lost and (rows := next(batches, None)) is not None:
        for key, value in rows:
            ready = read(lane, key, value)
            changed_count += ready is None or visit(ready, value)
        if changed_count < _ROWS_A_COMMIT:
            await asyncio.sleep(0)
        else:
            changed_count = 0
            await lanes.note(lane)


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

    def control_changed(self, cancel: Callable[[Ready], None]) -> None:
        """Carry out the new commands in all lanes, and all commands in new lanes."""
        orders = self._control.orders()
        self._asked = frozenset((key, 0) for key in self._control.cancel_keys()) | frozenset(
            (key, order.at_ms) for key, order in orders.items()
        )
        if self._next() is not None and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.create_task(self._sweep_all(cancel))

    def _next(self) -> Lane | None:
        """Return a lane that still has commands to carry out, None if there is none."""
        return next((lane for lane, done in self._done.items() if not self._asked <= done), None)

    async def _sweep_all(self, cancel: Callable[[Ready], None]) -> None:
        try:
            while (lane := self._next()) is not None:
                asked = self._asked
                await self._sweep(lane, self._orders(asked - self._done[lane]), cancel)
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

    async def _sweep(self, lane: Lane, orders: Orders, cancel: Callable[[Ready], None]) -> None:
        for order in orders.of_rows:
            self._start_row(lane, order)
        if orders.has_cancels or orders.filters:

            def carry_out(ready: Ready, value: bytes) -> bool:
                return self._carry_out(ready, value, orders, cancel)

            await visit_rows(self._lanes, lane, self._read, carry_out)

    def _start_row(self, lane: Lane, order: StartTask) -> None:
        if order.partition != lane.partition.number:
            return
        assert lane.window is not None
        value = lane.window.value_of(order.row)
        ready = None if value is None else self._read(lane, order.row, value)
        if ready is not None and ready.task.task_id == order.task_id:
            self._hasten(lane, order.row, order.at_ms)

    def _carry_out(self, ready: Ready, value: bytes, orders: Orders, cancel: Callable[[Ready], None]) -> bool:
        """Carry out the orders about a waiting task; returns whether its row changed."""
        lane, _, task, key = ready
        assert isinstance(key, bytes)
        if orders.has_cancels and self._control.is_cancelled(task) is not None:
            cancel(ready)
            return True
        meant = [one for one in orders.filters if _means(one, key, value, task.kind, task.object_id)]
        if any(isinstance(one, CancelWaiting) for one in meant):
            cancel(ready)
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
