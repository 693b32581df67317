"""Tasks that wait for their time: retries, and tasks with a delay. They wait in the table `waiting`, not in the log.

A request whose time has not come leaves the log: a row of it is put into the table, in the transaction that notes the
request as done. When the row is due, the task starts from there; the row is deleted in the transaction that commits
what became of the attempt. A crash or a rebalance leaves the row where it was. So none is lost, none runs twice for
good, none is early, and however many wait, only the next few thousand keys are in memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from agents.engine.attempt import Ready
from agents.engine.waiting_sweeps import WaitingSweeps
from agents.engine.waiting_window import MAX_KEYS, WaitingWindow
from agents.future_stamps import future_stamps
from app.errors import RecordTooLarge
from app.events import DECODE_ERRORS, decode_task_request
from app.kafka.types import ConsumerRecord
from app.names import WAITING_TABLE
from app.rules.outgoing import Outgoing
from app.rules.waiting_rows import MAX_ERROR_CHARS, REASONS, WaitingRow, decode_key, decode_row, encode_key, encode_row
from app.rules.worker_heartbeats import WaitingCount, waiting_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.engine.lane import Lane
    from agents.engine.worker_lanes import WorkerLanes
    from app.events import TaskCreated
    from app.rules.control import ControlState

_LONGEST_TIMER_S = 10.0
"""The clock is looked at again at least so often: it may have been set."""


class WaitingTasks:
    """Keeps the waiting tasks of a worker's lanes. It calls `on_due` when a task comes due; `is_due` while one is."""

    def __init__(
        self,
        lanes: WorkerLanes,
        control: ControlState,
        *,
        clock_ms: Callable[[], int],
        on_due: Callable[[], None],
        max_keys: int = MAX_KEYS,
    ) -> None:
        self.is_due = False
        self._has_turn = False
        self._lanes = lanes
        self._control = control
        self._clock_ms = clock_ms
        self._on_due = on_due
        self._max_keys = max_keys
        self._turns: deque[Lane] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_ms = 0
        self._sweeps = WaitingSweeps(lanes, control, read=self._read, hasten=self.hasten)

    def open(self, lane: Lane) -> None:
        """Go on with what waits in a lane."""
        if lane.rows.has_table(WAITING_TABLE):
            died = lane.life.deaths > 0
            lane.window = WaitingWindow(lane.rows, self._clock_ms(), after_death=died, max_keys=self._max_keys)
            self._turns.append(lane)
            self._sweeps.open(lane)
            self._look()
            if self.is_due:
                self._on_due()

    def close(self, lane: Lane) -> None:
        """Forget a lane: its next owner has the table."""
        if lane in self._turns:
            self._turns.remove(lane)
            self._sweeps.close(lane)

    @property
    def may_start(self) -> bool:
        """Whether a task is due that may start."""
        now_ms = self._clock_ms()
        return any(
            lane.parked_count < lane.max_parked and lane.window is not None and lane.window.is_due(now_ms)
            for lane in self._turns
        )

    def counts(self) -> list[WaitingCount]:
        """Return how many tasks wait, and when the first is due, by reason."""
        none = [WaitingCount(reason, 0) for reason in REASONS]
        return waiting_of([*none, *(one for lane in self._turns if lane.window for one in lane.window.counts())])

    def keeps(self, ready: Ready) -> bool:
        """Let a task wait if it asks for that; returns whether it does. Its request is done then."""
        lane, record, task, place = ready
        if task.due_at_ms is UNSET or lane.window is None or self._control.is_cancelled(task) is not None:
            return False
        now_ms, due_at_ms = self._clock_ms(), task.due_at_ms
        if record.timestamp > now_ms:
            # By the clock of the worker that wrote it: the task waits as long as was meant.
            due_at_ms -= record.timestamp - future_stamps.believe(lane.topic, record.timestamp, now_ms)
        if due_at_ms <= now_ms:
            return False
        try:
            row = self.row_of(record, task, due_at_ms)
        except RecordTooLarge as error:
            self._lanes.bury(lane, record, error)
        else:
            self.put(lane, *row)
        self._lanes.finish(lane, place)
        return True

    def row_of(self, record: ConsumerRecord, task: TaskCreated, due_at_ms: int, error: str = "") -> tuple[bytes, bytes]:
        """Return key and value of the row of an attempt. Raises `RecordTooLarge` if it cannot be kept."""
        key = encode_key(due_at_ms, record.offset, task.attempt)
        told = (self._clock_ms(), error[:MAX_ERROR_CHARS])
        value = encode_row(WaitingRow(record.timestamp, record.key, record.value, list(record.headers), *told))
        self._lanes.check_size(Outgoing(self._lanes.names.waiting_changelog, record.partition, key, value))
        return key, value

    def put(self, lane: Lane, key: bytes, value: bytes, *, has_started: bool = False) -> None:
        """Let an attempt wait, with the lane's next commit; `has_started`: it has said that it began."""
        assert lane.window is not None
        lane.window.put(key, value, has_started=has_started)
        self._lanes.mark(lane)
        self._wake_at(decode_key(key).due_at_ms)

    def has_turn(self) -> bool:
        """Return whether it is the turn of what is due: every second time, as the log has its turns too."""
        self._has_turn = not self._has_turn
        return self._has_turn

    def next(self) -> Ready | None:
        """Return a task whose time has come, one of each lane in turn; None if there is none."""
        now_ms = self._clock_ms()
        for _ in range(len(self._turns)):
            lane = self._turns[0]
            self._turns.rotate(-1)
            if lane.parked_count >= lane.max_parked:
                continue
            assert lane.window is not None
            found = lane.window.take(now_ms)
            if found is not None:
                ready = self._read(lane, *found)
                if ready is not None:
                    return ready
        self._look()
        return None

    def control_changed(self, cancel: Callable[[Ready], None]) -> None:
        """Carry out what control asks of what waits, in a while: a million tasks may wait."""
        self._sweeps.control_changed(cancel)

    def hasten(self, lane: Lane, key: bytes, due_at_ms: int) -> bool:
        """Let a row be due at an instant, at the latest now; returns False if it runs, is gone, or due by then."""
        assert lane.window is not None
        due_at_ms = min(due_at_ms, self._clock_ms())
        if lane.window.hasten(key, due_at_ms) is None:
            return False
        self._lanes.mark(lane)
        self._wake_at(due_at_ms)
        return True

    def _read(self, lane: Lane, key: bytes, value: bytes) -> Ready | None:
        """Return the task of a row; one that cannot be read goes to the dead letters."""
        _, offset, _ = decode_key(key)
        try:
            row = decode_row(value)
        except msgspec.DecodeError:
            row = WaitingRow(0, None, value, [])
        size = len(row.key or b""), len(row.value)
        record = ConsumerRecord(
            lane.topic, lane.partition.number, offset, row.timestamp_ms, 0, row.key, row.value, None, *size, row.headers
        )
        try:
            return Ready(lane, record, decode_task_request(row.value), key)
        except DECODE_ERRORS as error:
            self._lanes.bury(lane, record, error)
            self._lanes.finish(lane, key)
            return None

    def _look(self) -> None:
        """Find out whether something is due, and come back when the next row is."""
        now_ms = self._clock_ms()
        dues = [one for lane in self._turns if lane.window and (one := lane.window.next_due_ms) is not None]
        self.is_due = any(due_at_ms <= now_ms for due_at_ms in dues)
        self._set_timer(min((due_at_ms for due_at_ms in dues if due_at_ms > now_ms), default=None), now_ms)

    def _wake_at(self, due_at_ms: int) -> None:
        """Take note of a row that is new."""
        now_ms = self._clock_ms()
        if due_at_ms <= now_ms:
            self.is_due = True
            self._on_due()
        elif self._timer is None or due_at_ms < self._timer_at_ms:
            self._set_timer(due_at_ms, now_ms)

    def _set_timer(self, due_at_ms: int | None, now_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_at_ms is not None:
            self._timer_at_ms = due_at_ms
            # A millisecond late rather than early: the clock may be read just before it turns.
            wait_s = min((due_at_ms - now_ms + 1) / 1_000, _LONGEST_TIMER_S)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._timer_rings)

    def _timer_rings(self) -> None:
        self._timer = None
        try:
            self._look()
        except Exception as error:  # noqa: BLE001  # the event loop would only log it, and the timer be gone
            self._lanes.transactions.fatal(error)
        if self.is_due:
            self._on_due()
