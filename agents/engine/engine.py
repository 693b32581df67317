"""The processing engine: a bounded pool of running tasks, free of partitions.

Records of any lane start in any order as soon as the pool has room, and finish in any order (`lanes` commits
what happened). One slow task holds up neither others nor their visibility. What may not start yet is parked: a kind
that is paused or over its rate, and, with `order` "key", an object that has a task running.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agents.handlers import Context, Reject, Retry
from agents.handling.results import encode_result
from agents.outgoing import Outgoing
from app.errors import DecodeError
from app.events import (
    DECODE_ERRORS,
    TaskCancelled,
    TaskCreated,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TaskStarted,
    decode_task_request,
    encode,
    explain_decode_error,
)
from app.rules.dead_letters import message_of
from app.rules.fingerprint import fingerprint
from app.rules.rate import Throttle, share_of
from app.rules.retry import GiveUp
from app.topics import REDRIVEN_TABLE, TASK_EVENTS, retry_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiokafka.structs import ConsumerRecord

    from agents.engine.lane import Lane
    from agents.engine.lanes import Lanes
    from agents.handling.execution import Executor
    from agents.handling.loading import Handlers
    from app.events import TaskEvent
    from app.rules.control import ControlState
    from app.rules.retry import RetryAt, RetryPolicy
    from app.streaming.batching import RecordBatch

log = logging.getLogger(__name__)

_QUEUE_RECORDS = 1_000
"""Records that wait in memory for each lane beyond the pool's size; then its fetching pauses."""
_INLINE_BURST = 256
"""Inline tasks worked before other coroutines get their turn."""
_OVERDUE_S = 30.0
"""After its time limit a handler has 5 s to clean up; one that counts as running for so much longer hangs."""


class Ready(NamedTuple):
    """A task that may start as soon as nothing stands in its way."""

    lane: Lane
    record: ConsumerRecord
    task: TaskCreated


class Attempt:
    """One run of the handler: its task, how long it waited (ms) and when it began (monotonic, s)."""

    __slots__ = (
        "began_at_s",
        "cancel_reason",
        "common",
        "context",
        "identity",
        "key",
        "lane",
        "offset",
        "record",
        "running",
        "task",
        "wait_ms",
    )

    def __init__(self, ready: Ready, wait_ms: int, context: Context) -> None:
        self.lane, self.record, self.task = ready
        self.offset = ready.record.offset
        self.wait_ms = wait_ms
        self.context = context
        # What every event of this attempt has: made once, this is the inner loop of handlers that take no time.
        self.identity = _identity(ready.task)
        self.common = _common(ready.task)
        self.key = ready.task.object_id.encode()
        self.began_at_s = time.perf_counter()
        self.cancel_reason: str | None = None
        self.running: asyncio.Task[None] | None = None

    def spent_ms(self) -> int:
        """Return the time really spent until now."""
        return round((time.perf_counter() - self.began_at_s) * 1000)


class Engine:
    """Runs handlers over the records of one input topic.

    Guarantee: handlers run at least once; events of a task are committed exactly once, in one transaction with the
    task's place in the partition. Implements `lanes.LaneUser`.
    """

    def __init__(
        self,
        lanes: Lanes,
        *,
        topic: str,
        partition_count: int,
        handlers: Handlers,
        control: ControlState,
        retry_policy: RetryPolicy,
        concurrency: int,
        one_at_a_time_by_object: bool,
        time_limit_s: float,
        max_result_bytes: int,
        worker: str,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._lanes = lanes
        self._topic = topic
        self._partition_count = partition_count
        self._handlers = handlers
        self._executor: Executor | None = None
        self._control = control
        self._retry_policy = retry_policy
        self._concurrency = concurrency
        self._queue_records = _QUEUE_RECORDS + concurrency
        self._by_object = one_at_a_time_by_object
        self._time_limit_s = time_limit_s
        self._max_result_bytes = max_result_bytes
        self._worker = worker
        self._clock_ms = clock_ms
        self._throttle = Throttle()
        self._turns: deque[Lane] = deque()
        self._ready: deque[Ready] = deque()
        self._parked_kinds: dict[str, deque[Ready]] = {}
        self._parked_objects: dict[str, deque[Ready]] = {}
        self._busy_objects: set[str] = set()
        self._running: set[Attempt] = set()
        self._draining = False
        self._dispatch_planned = False
        self.last_progress_at_ms = clock_ms()
        lanes.register(self, [topic])

    @property
    def is_draining(self) -> bool:
        """Whether this worker starts nothing any more."""
        return self._draining or self._control.is_draining(self._worker)

    @property
    def running(self) -> Iterable[Attempt]:
        """The attempts whose handler runs now."""
        return self._running

    def could_go_on(self) -> bool:
        """Return whether something could be started or committed now: what may take its time, or must wait, does not.

        For the watchdog: what stays so although nothing is committed stands still.
        """
        if self._lanes.outgoing_count:
            return True
        overdue_s = time.perf_counter() - self._time_limit_s - _OVERDUE_S
        if any(attempt.began_at_s < overdue_s for attempt in self._running):
            return True
        if self.is_draining or len(self._running) >= (self._control.concurrency_of(self._worker) or self._concurrency):
            return False
        return bool(self._ready) or any(lane.may_start() for lane in self._turns)

    async def run(self, stream: Any) -> None:
        """Work a stream of batches until it ends: the body of an agent."""
        self._lanes.start()
        try:
            async for event in stream.events():
                self.take(event.value)
        except Exception as error:  # noqa: BLE001  # Faust would only start the agent again
            self._lanes.transactions.fatal(error)
        finally:
            self._lanes.stop()

    def take(self, batch: RecordBatch) -> None:
        """Queue the records of a batch that are not done yet."""
        lane = self._lanes.take(batch)
        if lane is not None:
            self._hold_if_full(lane)
            self._plan_dispatch()

    def lane_ready(self, lane: Lane) -> None:
        """Begin with a lane where its committed progress says."""
        self._turns.append(lane)
        self._share_rates()

    def lane_lost(self, lane: Lane) -> None:
        """Let go of a lane: its running tasks are cancelled, its next owner runs them again."""
        self._turns.remove(lane)
        self._share_rates()
        for attempt in list(lane.running.values()):
            attempt.running.cancel()

    def committed(self) -> None:
        """Go on with lanes that were crowded."""
        self._plan_dispatch()

    def open(self, executor: Executor) -> None:
        """Let tasks start: the controls in force are known now."""
        self._executor = executor
        self.control_changed()

    def control_changed(self) -> None:
        """Look again at everything that is held back, waits or runs, under the controls that are in force now."""
        self._share_rates()
        for parked in self._parked_kinds.values():
            self._ready.extend(parked)
        self._parked_kinds.clear()
        if self._control.has_cancels:
            self._cancel_running()
            self._cancel_waiting()
        self._plan_dispatch()

    async def drain(self, limit_s: float) -> None:
        """Start nothing more, wait up to `limit_s` for running tasks, and commit them; the rest is handed back."""
        self._draining = True
        log.info("stopping: %d running tasks have %g s to finish", len(self._running), limit_s)
        try:
            async with asyncio.timeout(limit_s):
                while self._running or self._lanes.outgoing_count:
                    await self._lanes.wait_quiet()
        except TimeoutError:
            log.warning("%d tasks still run after %g s: they are handed back", len(self._running), limit_s)

    def _plan_dispatch(self) -> None:
        if not self._dispatch_planned:
            self._dispatch_planned = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Start what may start, one of each lane in turn, while the pool has room."""
        self._dispatch_planned = False
        if self._draining or self._executor is None or self._control.is_draining(self._worker):
            return
        limit = self._control.concurrency_of(self._worker) or self._concurrency
        turns, ready, running = self._turns, self._ready, self._running
        idle = 0
        started = 0
        while len(running) < limit and started < _INLINE_BURST:
            if ready:
                self._start(ready.popleft())
            elif idle < len(turns):
                lane = turns[0]
                turns.rotate(-1)
                if not lane.may_start():
                    idle += 1
                    continue
                idle = 0
                self._decode_and_start(lane, lane.waiting.popleft())
                if lane.held:
                    self._hold_if_full(lane)
            else:
                return
            started += 1
        if started == _INLINE_BURST:
            self._plan_dispatch()

    def _decode_and_start(self, lane: Lane, record: ConsumerRecord) -> None:
        try:
            task = self._decode(record)
        except DecodeError as error:
            self._lanes.bury(lane, record, error)
            self._lanes.finish(lane, record.offset)
        else:
            self._start(Ready(lane, record, task))

    def _decode(self, record: ConsumerRecord) -> TaskCreated:
        try:
            task = decode_task_request(record.value)
        except DECODE_ERRORS as error:
            raise explain_decode_error(self._topic, error) from error
        if task.object_partition >= self._partition_count:
            # Its events would go to a partition that does not exist, which fails the whole step.
            raise DecodeError(
                f"not a valid record of {self._topic}: object_partition is {task.object_partition}, "
                f"there are {self._partition_count} partitions (EBS_PARTITIONS)"
            )
        return task

    def _start(self, ready: Ready) -> None:
        """Start a task, or park it where it waits for what stands in its way."""
        lane, record, task = ready
        if lane.lost:
            return
        control = self._control
        reason = control.is_cancelled(task) if control.has_cancels else None
        if reason is not None:
            self._cancel(ready)
        elif task.redrive is not msgspec.UNSET and self._is_second_redrive(ready):
            log.info("%s was redriven twice: one run counts", task.task_id)
            self._lanes.finish(lane, record.offset)
        elif control.has_pauses and control.is_paused(task.kind):
            self._parked_kinds.setdefault(task.kind, deque()).append(ready)
        elif self._by_object and task.object_id in self._busy_objects:
            self._parked_objects.setdefault(task.object_id, deque()).append(ready)
        elif control.has_rates and not self._has_token(ready):
            self._parked_kinds.setdefault(task.kind, deque()).append(ready)
        else:
            self._begin(ready)

    def _has_token(self, ready: Ready) -> bool:
        """Take a token of a kind's rate; if there is none, look again when there will be one."""
        kind = ready.task.kind
        if self._parked_kinds.get(kind):
            # Others of this kind wait already; whoever wakes them wakes this one.
            return False
        loop = asyncio.get_running_loop()
        wait_s = self._throttle.take(kind, time.monotonic())
        if 0 < wait_s < math.inf:
            loop.call_later(wait_s, self._release_kind, kind)
        return wait_s == 0

    def _begin(self, ready: Ready) -> None:
        lane, record, task = ready
        loaded = self._handlers.for_kind(task.kind)
        now_ms = self._clock_ms()
        since_ms = task.at_ms if task.due_at_ms is msgspec.UNSET else max(task.at_ms, task.due_at_ms)
        attempt = Attempt(ready, max(0, now_ms - since_ms), Context(task, self._time_limit_s))
        if lane.progress.start(record.offset):
            event_id = f"s-{attempt.identity}-{task.attempt}"
            details = (*attempt.common, now_ms, self._worker, attempt.wait_ms, task.redrive)
            self._send_event(attempt, TaskStarted(event_id, *details))
        if loaded.is_inline:
            self._run_inline(attempt, loaded)
            return
        self._running.add(attempt)
        if self._by_object:
            self._busy_objects.add(task.object_id)
        lane.running[record.offset] = attempt
        attempt.running = asyncio.create_task(self._run(attempt, loaded))

    def _run_inline(self, attempt: Attempt, loaded: Any) -> None:
        try:
            result = loaded.function(attempt.task, attempt.context)
        except BaseException as error:  # noqa: BLE001  # whatever a handler raises fails its task, sys.exit() included
            self._fail(attempt, error)
        else:
            self._finish(attempt, result)

    async def _run(self, attempt: Attempt, loaded: Any) -> None:
        assert self._executor is not None
        try:
            result = await self._executor.run(loaded, attempt.task, attempt.context)
        except asyncio.CancelledError:
            # Otherwise the partition is gone, or the worker stops: the task's next owner runs it again.
            if not attempt.lane.lost and attempt.cancel_reason is not None:
                self._cancel(Ready(attempt.lane, attempt.record, attempt.task))
        except Exception as error:  # noqa: BLE001  # as in _run_inline
            self._fail(attempt, error)
        else:
            self._finish(attempt, result)
        finally:
            self._ended(attempt)

    def _ended(self, attempt: Attempt) -> None:
        self._running.discard(attempt)
        attempt.lane.running.pop(attempt.offset, None)
        if self._by_object:
            self._release_object(attempt.task.object_id)
        self._plan_dispatch()

    def _finish(self, attempt: Attempt, result: object) -> None:
        task = attempt.task
        try:
            encoded = encode_result(result, self._max_result_bytes)
        except Exception as error:  # noqa: BLE001  # as in _run_inline: what a handler returns is anything
            self._fail(attempt, error)
            return
        finished = TaskFinished(
            f"f-{attempt.identity}",
            *attempt.common,
            self._clock_ms(),
            self._worker,
            attempt.wait_ms,
            attempt.spent_ms(),
            encoded,
            task.redrive,
        )
        self._send_event(attempt, finished)
        self._done(attempt)

    def _fail(self, attempt: Attempt, error: BaseException) -> None:
        """Tell of a failed attempt, and send the task to its next one or to the dead letters."""
        task = attempt.task
        now_ms = self._clock_ms()
        said = f"{type(error).__qualname__}: {message_of(error)}"
        decision = self._decide(task, error, now_ms)
        error_type = type(error).__qualname__
        details = (
            *attempt.common,
            now_ms,
            self._worker,
            attempt.wait_ms,
            attempt.spent_ms(),
            said,
            task.redrive,
            error_type,
            fingerprint(error_type, message_of(error)),
        )
        self._send_event(attempt, TaskFailed(f"x-{attempt.identity}-{task.attempt}", *details))
        if isinstance(decision, GiveUp):
            self._send_event(attempt, TaskDead(f"d-{attempt.identity}", *details))
            self._lanes.bury(attempt.lane, attempt.record, error, attempts=task.attempt, task=task)
        else:
            self._send_event(attempt, TaskRetried(f"t-{attempt.identity}-{task.attempt}", *details))
            self._send_to_ladder(attempt, decision, now_ms, said)
        self._done(attempt)

    def _decide(self, task: TaskCreated, error: BaseException, now_ms: int) -> RetryAt | GiveUp:
        if isinstance(error, Reject):
            return GiveUp("rejected by its handler")
        return self._retry_policy.decide(
            attempt=task.attempt,
            created_at_ms=task.at_ms,
            now_ms=now_ms,
            asked_delay_s=error.delay_s if isinstance(error, Retry) else None,
            draw=random.uniform,
        )

    def _send_to_ladder(self, attempt: Attempt, decision: RetryAt, now_ms: int, said: str) -> None:
        task = attempt.task
        again = msgspec.structs.replace(task, attempt=task.attempt + 1, due_at_ms=decision.due_at_ms)
        if task.first_failed_at_ms is msgspec.UNSET:
            again = msgspec.structs.replace(again, first_failed_at_ms=now_ms, first_error=said)
        record = attempt.record
        outgoing = Outgoing(
            retry_topic(decision.tier_s), record.partition, record.key, encode(again), list(record.headers)
        )
        self._lanes.send(attempt.lane, outgoing)

    def _cancel(self, ready: Ready) -> None:
        task = ready.task
        event = TaskCancelled(f"n-{_identity(task)}", *_common(task), self._clock_ms(), task.redrive)
        self._lanes.send(
            ready.lane, Outgoing(TASK_EVENTS, task.object_partition, task.object_id.encode(), encode(event))
        )
        self._lanes.finish(ready.lane, ready.record.offset)

    def _cancel_running(self) -> None:
        for attempt in self._running:
            reason = self._control.is_cancelled(attempt.task)
            if reason is not None and attempt.cancel_reason is None and attempt.running is not None:
                attempt.cancel_reason = reason
                attempt.running.cancel()

    def _cancel_waiting(self) -> None:
        """Take cancelled tasks out of the queues now: the pool may be busy for long."""
        for parked in (*self._parked_objects.values(), self._ready):
            for ready in [one for one in parked if self._control.is_cancelled(one.task) is not None]:
                parked.remove(ready)
                if not ready.lane.lost:
                    self._cancel(ready)
        for lane in self._turns:
            kept: deque[ConsumerRecord] = deque()
            for record in lane.waiting:
                try:
                    task = self._decode(record)
                except DecodeError:
                    kept.append(record)
                    continue
                if self._control.is_cancelled(task) is None:
                    kept.append(record)
                else:
                    self._cancel(Ready(lane, record, task))
            lane.waiting = kept

    def _is_second_redrive(self, ready: Ready) -> bool:
        """Return whether another record redrove this task in the same generation; the first one of each is noted."""
        lane, record, task = ready
        if task.attempt > 1:
            return False
        key = _identity(task).encode()
        mine = str(record.offset).encode()
        first = lane.redriven.get(key) or lane.partition.stores[REDRIVEN_TABLE].get(key)
        if first is None:
            lane.redriven[key] = mine
            self._lanes.put(lane, REDRIVEN_TABLE, key, mine)
            return False
        return bool(first != mine)

    def _share_rates(self) -> None:
        """Take this worker's part of each limit: that of its partitions."""
        shares = {
            kind: share_of(per_s, len(self._turns), self._partition_count)
            for kind, per_s in self._control.rates().items()
        }
        self._throttle.set_rates(shares, time.monotonic())

    def _release_kind(self, kind: str) -> None:
        self._ready.extend(self._parked_kinds.pop(kind, ()))
        self._plan_dispatch()

    def _release_object(self, object_id: str) -> None:
        self._busy_objects.discard(object_id)
        parked = self._parked_objects.get(object_id)
        if parked:
            self._ready.append(parked.popleft())
            if not parked:
                del self._parked_objects[object_id]

    def _done(self, attempt: Attempt) -> None:
        if not attempt.lane.lost:
            self._lanes.finish(attempt.lane, attempt.offset)
            self.last_progress_at_ms = self._clock_ms()

    def _send_event(self, attempt: Attempt, event: TaskEvent) -> None:
        outgoing = Outgoing(TASK_EVENTS, attempt.task.object_partition, attempt.key, encode(event))
        self._lanes.send(attempt.lane, outgoing)

    def _hold_if_full(self, lane: Lane) -> None:
        limit = self._queue_records // 2 if lane.held else self._queue_records
        self._lanes.hold(lane, held=len(lane.waiting) > limit)


def _identity(task: TaskCreated) -> str:
    """Return what tells a task's generation apart in event ids."""
    return task.task_id if task.redrive is msgspec.UNSET else f"{task.task_id}-r{task.redrive}"


def _common(task: TaskCreated) -> tuple[str, str, int, str, int, int, int]:
    return (
        task.object_id,
        task.task_id,
        task.object_partition,
        task.kind,
        task.sequence,
        task.task_count,
        task.attempt,
    )
