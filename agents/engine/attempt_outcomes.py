"""The outcome of an attempt: its events, and where the task goes next. Everything is sent with the lane's commit.

| the handler | events | the task |
| --- | --- | --- |
| begins | TASK_STARTED, once in all lives of the attempt | is open |
| returns JSON | TASK_FINISHED, with what it has produced (`ebs.outputs`) | is done |
| raises, attempts left | TASK_FAILED, TASK_RETRIED | waits in the table `waiting` |
| raises for the last time, or Reject, or returns no JSON | TASK_FAILED, TASK_DEAD | lies in `dead-letters` |
| cannot run or end now (`Postponed`) | none | waits in the table `waiting`, its attempt has begun |
| is cancelled by control | TASK_CANCELLED | is done |
| is cancelled as its partition is lost | none | is its next owner's |

The end of a dead task may also include the pause of its kind (`breaker`).
"""

from __future__ import annotations

import dataclasses
import logging
import math
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from agents.engine.delayed_ends import GATHER_S
from agents.engine.event_fields import cancelled
from agents.execution.results import encode_result
from agents.failure_story import FailureStory, describe
from app.errors import HandlerCrashed, Postponed, RecordTooLarge
from app.events import TaskDead, TaskFailed, TaskFinished, TaskRetried, TaskStarted, encode
from app.json_text import NULL
from app.rules.dead_letters import event_stack_of, message_of, type_name_of
from app.rules.fingerprint import fingerprint
from app.rules.outgoing import Outgoing
from app.rules.retry_policy import GiveUp
from app.streaming.topic_limits import SURELY_FITS_BYTES
from ebs.errors import Reject, Retry

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from agents.engine.attempt import Attempt
    from agents.engine.breaker import Breaker
    from agents.engine.kind_limits import KindLimits
    from agents.engine.lane import Ready
    from agents.engine.produced_records import ProducedRecords
    from agents.engine.split_outputs import SplitOutputs
    from agents.engine.waiting_tasks import WaitingTasks
    from agents.engine.worker_lanes import WorkerLanes
    from app.events import TaskCreated, TaskEvent
    from app.kafka.types import ConsumerRecord
    from app.rules.retry_policy import RetryAt

log = logging.getLogger(__name__)

_PATIENT_MS = 4 * round(GATHER_S * 1_000)
"""A retry that is due later than in this time may be written together with others."""


class AttemptOutcomes:
    """Tells what happens to attempts; `last_progress_at_ms` is when one last came to its end.

    `counts` has how many ended, by role (`task`, `split`, `join`, `callback`) and outcome (`finished`, `failed`,
    `dead`).
    """

    def __init__(
        self,
        lanes: WorkerLanes,
        *,
        worker: str,
        clock_ms: Callable[[], int],
        waiting: WaitingTasks,
        splits: SplitOutputs,
        produced: ProducedRecords,
        limits: KindLimits,
        breaker: Breaker | None = None,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`draw` takes a number from a range: by how much a pause is longer or shorter than its setting."""
        self._lanes = lanes
        self._waiting = waiting
        self._splits = splits
        self._produced = produced
        self._limits = limits
        self._names = lanes.names
        self._task_events = lanes.names.task_events
        self._breaker = breaker
        self._draw = draw
        self._worker = worker
        self._clock_ms = clock_ms
        self._story = FailureStory(log)
        self.last_progress_at_ms = clock_ms()
        self.counts: Counter[tuple[str, str]] = Counter()

    def start(self, attempt: Attempt, now_ms: int) -> bool:
        """Say that an attempt begins; returns False if an earlier life of it has said so."""
        if not attempt.lane.start(attempt.place):
            return False
        task = attempt.task
        event_id = f"s-{attempt.identity}-{task.attempt}"
        told = (task.redrive, task.role, task.starts_at_ms)
        details = (*attempt.common, now_ms, self._worker, attempt.wait_ms, *told)
        self._lanes.send(attempt.lane, self._event(attempt, TaskStarted(event_id, *details)))
        return True

    def note(self, attempt: Attempt) -> asyncio.Future[None]:
        """Return what is done when it is committed that an attempt has begun."""
        return self._lanes.note(attempt.lane)

    def finish(self, attempt: Attempt, result: object) -> None:
        """Keep the result; if it cannot be kept, the attempt fails."""
        task = attempt.task
        now_ms = self._clock_ms()
        more: list[Outgoing] = []
        try:
            encoded = encode_result(result, attempt.loaded.limits.max_result_bytes)
            if task.role == "split":
                more, encoded = self._splits.records(attempt, encoded, now_ms), NULL
            outputs = attempt.context.close_outputs()
            if outputs is not None:
                more += self._produced.of(attempt, outputs, now_ms)
        except BaseException as error:  # noqa: BLE001  # what a handler returns is anything, also what its encoding raises
            self.fail(attempt, error)
            return
        finished = TaskFinished(
            f"f-{attempt.identity}",
            *attempt.common,
            now_ms,
            self._worker,
            attempt.wait_ms,
            attempt.spent_ms(),
            encoded,
            task.redrive,
            task.role,
        )
        event = self._event(attempt, finished)
        if len(encoded) > SURELY_FITS_BYTES:
            try:
                self._lanes.check_size(event)
            except RecordTooLarge as error:
                self.fail(attempt, Reject(f"the result is too large: {error}"))
                return
        self._lanes.send(attempt.lane, event)
        for one in more:
            self._lanes.send(attempt.lane, one)
        self._done(attempt, now_ms)

    def fail(self, attempt: Attempt, error: BaseException) -> None:
        """Tell of a failed attempt, and send the task to its next one or to the dead letters."""
        if attempt.lane.lost:
            # Its next owner runs it again; a log line would report a failure that did not happen.
            return
        if isinstance(error, Postponed) and self._postpone(attempt, error):
            return
        task = attempt.task
        now_ms = self._clock_ms()
        decision = self._decide(attempt, error, now_ms)
        error_type = type_name_of(error)
        message = message_of(error)
        said, alike = f"{error_type}: {message}", fingerprint(error_type, message)
        times = (now_ms, self._worker, attempt.wait_ms, attempt.spent_ms())
        details = (*attempt.common, *times, said, task.redrive, error_type, alike, task.role)
        cause, again, due_at_ms = error, None, now_ms
        if not isinstance(decision, GiveUp):
            cause, again = self._next_attempt(attempt, decision, now_ms, error, said)
            due_at_ms = decision.due_at_ms
        pause = None
        failed = self._event(
            attempt, TaskFailed(f"x-{attempt.identity}-{task.attempt}", *details, event_stack_of(error))
        )
        outgoing = [failed]
        if again is None:
            event = self._event(attempt, TaskDead(f"d-{attempt.identity}", *details))
            letter = self._lanes.dead_letter(_seen_by(attempt), cause, attempts=task.attempt, task=task)
            if self._breaker is not None:
                pause = self._breaker.died(attempt, said)
            outgoing += [event, letter, *([] if pause is None else [pause])]
        else:
            event = self._event(attempt, TaskRetried(f"t-{attempt.identity}-{task.attempt}", *details, due_at_ms))
            outgoing.append(event)
            text = "%s failed, the next one is due in %.1f s: %s"
            wait_s = (due_at_ms - now_ms) / 1_000
            self._story.tell((task.kind, alike), time.monotonic(), text, describe(task), wait_s, said)
        # The next task of its key must not start before this end is committed, or it could run again after that one.
        may_wait = not self._limits.blocking_line(task) and (again is None or due_at_ms - now_ms > _PATIENT_MS)
        self._end_failed(attempt, outgoing, again, is_patient=may_wait)
        self.counts[task.role or "task", "dead" if again is None else "failed"] += 1
        if pause is not None:
            # The other workers go on until they read it.
            self._lanes.ends.send_now()
        self.last_progress_at_ms = now_ms

    def _end_failed(
        self, attempt: Attempt, outgoing: list[Outgoing], again: tuple[bytes, bytes] | None, *, is_patient: bool
    ) -> None:
        """Write the end of a failed attempt, and the row of the next one; if it `is_patient`, together with others."""

        def write() -> None:
            for one in outgoing:
                self._lanes.send(attempt.lane, one)
            self._lanes.finish(attempt.lane, attempt.place)
            if again is not None:
                self._waiting.put(attempt.lane, *again)

        if is_patient:
            self._lanes.ends.add(attempt.lane, write)
        else:
            write()

    def _postpone(self, attempt: Attempt, error: Postponed) -> bool:
        """Let an attempt that began wait, and begin again; returns False if it is too old or too large to wait."""
        due_at_ms = self._clock_ms() + round(error.delay_s * 1_000)
        if due_at_ms - _starts_at_ms(attempt.task) > attempt.loaded.limits.retry.max_age_ms:
            return False
        task = msgspec.structs.replace(attempt.task, due_at_ms=due_at_ms)
        record = dataclasses.replace(_seen_by(attempt), value=encode(task))
        line, said = self._limits.blocking_line(task), message_of(error)
        try:
            row = self._waiting.row_of(record, task, due_at_ms, line, said)
        except RecordTooLarge:
            return False
        if line:
            attempt.next_turn = line, row[0]
        text = "%s waits %.0f s and then runs again: %s"
        self._story.tell((task.kind, said), time.monotonic(), text, describe(task), error.delay_s, said)
        self._lanes.finish(attempt.lane, attempt.place)
        self._waiting.put(attempt.lane, *row, has_started=True)
        return True

    def cancel(self, ready: Ready) -> None:
        """End a task that control has cancelled, wherever it was."""
        self._lanes.send(ready.lane, cancelled(ready.task, self._clock_ms(), self._task_events))
        self._lanes.finish(ready.lane, ready.place)

    def pass_over(self, ready: Ready) -> None:
        """End a record that asks for what another one has asked for already: without a word."""
        self._lanes.finish(ready.lane, ready.place)

    def _next_attempt(
        self, attempt: Attempt, decision: RetryAt, now_ms: int, error: BaseException, said: str
    ) -> tuple[BaseException, tuple[bytes, bytes] | None]:
        """Return a task's error and the row in which its next attempt waits, or the error that there can be none."""
        again = _next_attempt(attempt.task, decision.due_at_ms, now_ms, said)
        record = dataclasses.replace(_seen_by(attempt), value=encode(again))
        line = self._limits.blocking_line(again)
        try:
            row = self._waiting.row_of(record, again, decision.due_at_ms, line, said)
        except RecordTooLarge as too_large:
            return RecordTooLarge(f"no further attempt, because {too_large}. It failed with {said}"), None
        if line:
            attempt.next_turn = line, row[0]
        return error, row

    def _decide(self, attempt: Attempt, error: BaseException, now_ms: int) -> RetryAt | GiveUp:
        if isinstance(error, Reject):
            return GiveUp("rejected by its handler")
        if isinstance(error, HandlerCrashed):
            return GiveUp("ended the workers that ran it")
        task = attempt.task
        return attempt.loaded.limits.retry.decide(
            attempt=task.attempt,
            created_at_ms=_starts_at_ms(task),
            now_ms=now_ms,
            asked_delay_s=_asked_delay_s(error),
            draw=self._draw,
        )

    def _done(self, attempt: Attempt, now_ms: int) -> None:
        if not attempt.lane.lost:
            self._lanes.finish(attempt.lane, attempt.place)
            self.counts[attempt.task.role or "task", "finished"] += 1
            self.last_progress_at_ms = now_ms
            if self._breaker is not None:
                self._breaker.shares.finished(attempt.task.kind, attempt.began_at_s, time.perf_counter())

    def _event(self, attempt: Attempt, event: TaskEvent) -> Outgoing:
        return Outgoing(self._task_events, event.object_partition, attempt.key, encode(event))


def _starts_at_ms(task: TaskCreated) -> int:
    """Return when the first attempt could start: a task is not old because it was delayed."""
    return task.at_ms if task.starts_at_ms is msgspec.UNSET else max(task.at_ms, task.starts_at_ms)


def _asked_delay_s(error: BaseException) -> float | None:
    """Return how long an error asks to wait; a subclass of `Retry` may have left out what its constructor checks."""
    delay_s = getattr(error, "delay_s", None) if isinstance(error, Retry) else None
    return delay_s if isinstance(delay_s, int | float) and 0 <= delay_s < math.inf else None


def _next_attempt(task: TaskCreated, due_at_ms: int, now_ms: int, said: str) -> TaskCreated:
    """Return the request of a task's next attempt."""
    again = msgspec.structs.replace(task, attempt=task.attempt + 1, due_at_ms=due_at_ms)
    if task.first_failed_at_ms is msgspec.UNSET:
        again = msgspec.structs.replace(again, first_failed_at_ms=now_ms, first_error=said)
    return again


def _seen_by(attempt: Attempt) -> ConsumerRecord:
    """Return the record of an attempt; if the task is traced, its headers make later spans children of this attempt."""
    if attempt.traced is None:
        return attempt.record
    return dataclasses.replace(attempt.record, headers=tuple(attempt.traced.carry(attempt.record.headers)))
