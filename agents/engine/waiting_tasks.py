"""Tasks that wait in the table `waiting`, not in the log: for their time (retries, delays), and long lines.

A request whose time has not come leaves the log: a row of it is put into the table, in the transaction that notes the
request as done. When the row is due, the task starts from there; the row is deleted in the transaction that commits
what became of the attempt. A crash or a rebalance leaves the row where it was. So none is lost, none runs twice for
good, none is early, and however many wait, only the next few thousand keys are in memory. What waits in a line
(`lane_lines`) and does not fit into memory has rows that come and go in the same way.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from agents.engine.lane import Ready
from agents.engine.waiting_sweeps import WaitingSweeps
from agents.engine.waiting_window import MAX_KEYS, WaitingWindow
from agents.future_stamps import future_stamps
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
    from agents.engine.waiting_sweeps import Canceller
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
        self._sweeps = WaitingSweeps(lanes, control, read=self.read, hasten=self.hasten)

    def open(self, lane: Lane) -> None:
        """Go on with what waits in a lane."""
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
        """Forget a lane: its next owner has the table."""
        if lane in self._turns:
            self._turns.remove(lane)
            self._sweeps.close(lane)

    @property
    def may_start(self) -> bool:
        """Whether a task is due that may start."""
        now_ms = self._clock_ms()
        return any(lane.window is not None and lane.window.is_due(now_ms) for lane in self._turns)

    def counts(self) -> list[WaitingCount]:
        """Return how many tasks wait for their time, and when the first is due, by reason."""
        return waiting_of(one for lane in self._turns if lane.window for one in lane.window.counts())

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

    def row_of(
        self, record: ConsumerRecord, task: TaskCreated, due_at_ms: int, line: bytes = b"", error: str = ""
    ) -> tuple[bytes, bytes]:
        """Return key and value of the row of an attempt, for which the tasks of `line` wait.

        `error` is what the last attempt failed with. Raises `RecordTooLarge` if the row cannot be kept.
        """
        return timed_key(due_at_ms, record.offset, task.attempt, line), self._value_of(record, error)

    def put(self, lane: Lane, key: bytes, value: bytes, *, has_started: bool = False) -> None:
        """Let an attempt wait, with the lane's next commit; `has_started`: it has said that it began."""
        assert lane.window is not None
        lane.window.put(key, value, has_started=has_started)
        self._lanes.mark(lane)
        self._wake_at(due_at_ms_of(key))

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
            assert lane.window is not None
            found = lane.window.take(now_ms)
            if found is not None:
                ready = self.read(lane, *found)
                if ready is not None:
                    return ready
        self._look()
        return None

    def control_changed(self, canceller: Canceller) -> None:
        """Carry out what control asks of what waits, in a while: a million tasks may wait."""
        self._sweeps.control_changed(canceller)

    def hasten(self, lane: Lane, key: bytes, due_at_ms: int) -> bool:
        """Let a row be due at an instant, at the latest now; returns False if it runs, is gone, or due by then."""
        assert lane.window is not None
        due_at_ms = min(due_at_ms, self._clock_ms())
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
        """Let a task wait in the table, in a line; returns its place there, None if it is buried."""
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
        """Return the row of a request. Raises `RecordTooLarge` if it cannot be kept."""
        told = (self._clock_ms(), error[:MAX_ERROR_CHARS])
        value = encode_row(WaitingRow(record.timestamp, record.key, record.value, list(record.headers), *told))
        if len(value) > SURELY_FITS_BYTES:
            key = key_in_line(b"", record.offset, 1)
            self._lanes.check_size(Outgoing(self._lanes.waiting_changelog, record.partition, key, value))
        return value

    def read(self, lane: Lane, key: bytes, value: bytes) -> Ready | None:
        """Return the task of a row; one that cannot be read goes to the dead letters."""
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
