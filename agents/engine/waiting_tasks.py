"""Tasks that wait in the table `waiting`, not in the log: retries, delayed tasks, and long lines (`lane_lines`).

A request that is not due yet leaves the log: it becomes a row of the table, in the transaction that notes the request
as done. When the row is due, the task starts from it. The row is deleted in the transaction that commits the end of the
attempt. A crash or a rebalance does not change the row. So no task is lost, none counts twice, and none starts early.
However many tasks wait, only the next few thousand keys are in memory. The tasks of a line that do not fit into memory
get rows in the same way.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from agents.engine.lane import Ready
from agents.engine.set_back_clock import SetBackClock
from agents.engine.waiting_sweeps import WaitingSweeps
from agents.engine.waiting_window import MAX_KEYS, WaitingWindow
from app.errors import RecordTooLarge
from app.events import DECODE_ERRORS, decode_task_request
from app.kafka.types import ConsumerRecord
from app.names import WAITING_TABLE
from app.rules.outgoing import Outgoing
from app.rules.waiting_rows import (
    IN_LINE,
    MAX_ERROR_CHARS,
    WaitingRow,
    decode_key,
    decode_row,
    due_at_ms_of,
    encode_row,
    key_in_line,
    kind_and_key,
    timed_key,
)
from app.rules.worker_heartbeats import WaitingCount, waiting_of
from app.streaming.topic_limits import SURELY_FITS_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.engine.lane import Lane
    from agents.engine.lane_lines import Place
    from agents.engine.worker_lanes import WorkerLanes
    from app.events import TaskCreated
    from app.rules.control import ControlState

_LONGEST_TIMER_S = 10.0
"""The clock is read again at least this often, as somebody may set it."""


class WaitingTasks:
    """Keeps the waiting tasks of a worker's lanes. It calls `on_due` when a task is due; `is_due` is true meanwhile."""

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
        self._sweeps = WaitingSweeps(lanes, control, read=self.read, hasten=self._start_now)
        self._set_back_clock = SetBackClock(lanes, hasten=self._hasten)

    def open(self, lane: Lane) -> None:
        """Take over the waiting tasks of a lane."""
        if lane.rows.has_table(WAITING_TABLE):
            died = lane.life.deaths > 0
            lane.window = WaitingWindow(
                lane.rows,
                self._clock_ms(),
                after_death=died,
                max_keys=self._max_keys,
                could_run=lambda line: not self._control.is_paused(kind_and_key(line)[0]),
            )
            keep, read = functools.partial(self._keep, lane), functools.partial(self.read, lane)
            lane.lines.open(lane.window.lines, keep=keep, read=read)
            self._turns.append(lane)
            self._sweeps.open(lane)
            self._look()
            if self.is_due:
                self._on_due()

    def close(self, lane: Lane) -> None:
        """Forget a lane: its next owner takes over the table."""
        if lane in self._turns:
            self._turns.remove(lane)
            self._sweeps.close(lane)

    @property
    def may_start(self) -> bool:
        """Whether a task is due that may start."""
        now_ms = self._clock_ms()
        return any(lane.window is not None and lane.window.is_due(now_ms) for lane in self._turns)

    def counts(self) -> list[WaitingCount]:
        """Return by reason how many timed rows there are, and when the first one is due."""
        return waiting_of(one for lane in self._turns if lane.window for one in lane.window.counts())

    def keeps(self, ready: Ready) -> bool:
        """Let a task wait in the table if it is due later; returns whether it waits. Then its request is done."""
        lane, record, task, place = ready
        if task.due_at_ms is UNSET or lane.window is None or self._control.is_cancelled(task) is not None:
            return False
        # The record's stamp does not count: the clock of its writer may be ahead of the clock that set the due time.
        if task.due_at_ms <= self._clock_ms():
            return False
        try:
            row = self.row_of(record, task, task.due_at_ms)
        except RecordTooLarge as error:
            self._lanes.bury(lane, record, error)
        else:
            self.put(lane, *row)
        self._lanes.finish(lane, place)
        return True

    def row_of(
        self, record: ConsumerRecord, task: TaskCreated, due_at_ms: int, line: bytes = b"", error: str = ""
    ) -> tuple[bytes, bytes]:
        """Return key and value of the row of an attempt. The tasks of `line` wait for it.

        `error` is the error of the last attempt. Raises `RecordTooLarge` if the changelog does not take the row.
        """
        return timed_key(due_at_ms, record.offset, task.attempt, line), self._value_of(record, error)

    def put(self, lane: Lane, key: bytes, value: bytes, *, has_started: bool = False) -> None:
        """Let an attempt wait, with the lane's next commit. `has_started`: its TASK_STARTED was sent."""
        assert lane.window is not None
        lane.window.put(key, value, has_started=has_started)
        self._lanes.mark(lane)
        self._wake_at(due_at_ms_of(key))

    def has_turn(self) -> bool:
        """Return whether a due task may start before a record of the log: every second time."""
        self._has_turn = not self._has_turn
        return self._has_turn

    def next(self) -> Ready | None:
        """Return a due task, one of each lane in turn; None if no task is due."""
        now_ms = self._clock_ms()
        for _ in range(len(self._turns)):
            lane = self._turns[0]
            self._turns.rotate(-1)
            assert lane.window is not None
            found = lane.window.take(now_ms)
            if found is not None:
                ready = self.read(lane, *found)
                if ready is not None:
                    return ready
        self._look()
        return None

    def control_changed(self, cancel: Callable[[Ready], None]) -> None:
        """Begin to carry out the commands about waiting tasks. This takes a while: a million tasks may wait."""
        self._sweeps.control_changed(cancel)

    def _start_now(self, lane: Lane, key: bytes, at_ms: int) -> bool:
        """Make a row due at an instant, at the latest now; returns False if it runs, is gone, or is due by then."""
        return self._hasten(lane, key, min(at_ms, self._clock_ms()))

    def _hasten(self, lane: Lane, key: bytes, due_at_ms: int) -> bool:
        """Make a row due at an instant; returns False if it runs, is gone, or is due by then."""
        assert lane.window is not None
        hastened = lane.window.hasten(key, due_at_ms)
        if hastened is None:
            return False
        line = decode_key(key).line
        if line and lane.lines.end_turn(line, key):
            lane.lines.give_turn(line, hastened)
        self._lanes.mark(lane)
        self._wake_at(due_at_ms)
        return True

    def _keep(self, lane: Lane, line: bytes, ready: Ready) -> Place | None:
        """Let a task wait in a line, in the table; returns its place there, None if it went to the dead letters."""
        window, (_, record, task, place) = lane.window, ready
        assert window is not None
        if isinstance(place, bytes) and place[:1] == IN_LINE and decode_key(place).line == line:
            window.lines.unload(line, place)
            return place
        try:
            value = window.content_of(place) if isinstance(place, bytes) else self._value_of(record)
        except RecordTooLarge as error:
            self._lanes.bury(lane, record, error)
            self._lanes.finish(lane, place)
            return None
        key = window.free_key(line, record.offset, task.attempt, value)
        if isinstance(place, bytes):
            has_started, is_suspect = window.has_started(place), place in window.suspects
        else:
            has_started, is_suspect = lane.progress.has_started(place), place < lane.careful_to
        if is_suspect and not self._control.is_paused(task.kind):
            window.suspects.add(key)
        self._lanes.finish(lane, place)
        window.put(key, value, has_started=has_started)
        return key

    def _value_of(self, record: ConsumerRecord, error: str = "") -> bytes:
        """Return the value of the row of a request. Raises `RecordTooLarge` if the changelog does not take the row."""
        told = (self._clock_ms(), error[:MAX_ERROR_CHARS])
        value = encode_row(WaitingRow(record.timestamp, record.key, record.value, list(record.headers), *told))
        if len(value) > SURELY_FITS_BYTES:
            key = key_in_line(b"", record.offset, 1)
            self._lanes.check_size(Outgoing(self._lanes.waiting_changelog, record.partition, key, value))
        return value

    def read(self, lane: Lane, key: bytes, value: bytes) -> Ready | None:
        """Return the task of a row; None if it cannot be read: then the row goes to the dead letters."""
        offset = decode_key(key).offset
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
        """Find out whether a task is due, and set the timer for the next one."""
        now_ms = self._clock_ms()
        self._set_back_clock.look(self._turns, now_ms)
        dues = [one for lane in self._turns if lane.window and (one := lane.window.next_due_ms) is not None]
        self.is_due = any(due_at_ms <= now_ms for due_at_ms in dues)
        self._set_timer(min((due_at_ms for due_at_ms in dues if due_at_ms > now_ms), default=None), now_ms)

    def _wake_at(self, due_at_ms: int) -> None:
        """Wake up when a new row is due."""
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
            # A millisecond late rather than early: the clock may show the millisecond before.
            wait_s = min((due_at_ms - now_ms + 1) / 1_000, _LONGEST_TIMER_S)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._timer_rings)

    def _timer_rings(self) -> None:
        self._timer = None
        try:
            self._look()
        except Exception as error:  # noqa: BLE001  # the event loop would only log it, and the timer would be gone
            self._lanes.transactions.fatal(error)
        if self.is_due:
            self._on_due()
