"""The pool: the attempts that run now, how many may, and how they begin and end."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from msgspec import UNSET

from agents.engine.attempt import Attempt
from agents.engine.lane import Ready
from agents.failure_story import describe
from app.errors import HandlerError
from app.process import forked
from ebs.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from agents.engine.attempt_outcomes import AttemptOutcomes
    from agents.engine.attempt_tracing import AttemptTracing
    from agents.engine.lane import Lane
    from agents.execution.batch_call import CallOutcome
    from agents.execution.executor import Executor
    from agents.execution.loading import Handlers
    from app.rules.control import ControlState

log = logging.getLogger(__name__)

_OVERDUE_S = 30.0
"""After its time limit a handler has 5 s to clean up; one that counts as running for so much longer hangs."""
_CLOSE_LIMIT_S = 1.0
"""For cancelled handlers when the worker ends; their tasks belong to other workers by then."""


_CANCELLED_BY_OTHERS = (
    "the handler was cancelled, but not by ebs: does it cancel its own task, or all tasks of the event loop?"
)


class Pool:
    """Runs handlers, at most so many at once; `on_end` hears when attempts that take time have ended.

    `on_fault` gets an error of our own code at the end of an attempt: its task would wait for ever.
    """

    def __init__(
        self,
        handlers: Handlers,
        outcomes: AttemptOutcomes,
        control: ControlState,
        *,
        concurrency: int,
        worker: str,
        clock_ms: Callable[[], int],
        on_end: Callable[[Attempt], None],
        on_fault: Callable[[BaseException], object],
        tracing: AttemptTracing | None = None,
    ) -> None:
        self._tracing = tracing
        self.running: set[Attempt] = set()
        self._beside: set[Attempt] = set()
        self._inline: Attempt | None = None
        self.executor: Executor | None = None
        self._handlers = handlers
        self._outcomes = outcomes
        self._control = control
        self._concurrency = concurrency
        self._worker = worker
        self._clock_ms = clock_ms
        self._on_end = on_end
        self._on_fault = on_fault

    @property
    def size(self) -> int:
        """How many places there are: what control asks for, else the setting."""
        return self._control.concurrency_of(self._worker) or self._concurrency

    @property
    def abandoned_count(self) -> int:
        """Handlers that were left behind and still run. Python cannot end a thread: each keeps its place."""
        return 0 if self.executor is None else self.executor.abandoned_running_count

    @property
    def limit(self) -> int:
        """How many may run: the places that no abandoned handler and no call keeps, and all that run beside them."""
        return self._free_size + len(self._beside)

    @property
    def _free_size(self) -> int:
        """How many places there are for attempts: a call of a batch function takes one for all of its own."""
        executor = self.executor
        return self.size - (0 if executor is None else executor.abandoned_running_count + executor.calls.running_count)

    @property
    def is_full(self) -> bool:
        """Whether none may start now."""
        return len(self.running) >= self.limit

    @property
    def has_overdue(self) -> bool:
        """Whether an attempt counts as running long after its time limit: something hangs."""
        now_s = time.perf_counter()
        # What runs beside the pool waits as long as it takes, and has a limit of its own.
        return any(
            attempt.began_at_s + attempt.loaded.limits.time_limit_s + _OVERDUE_S < now_s
            for attempt in self.running - self._beside
        )

    @property
    def is_stuck(self) -> bool:
        """Whether handlers that were left behind hold all places, so that nothing can ever start."""
        waiting_count = 0 if self.executor is None else self.executor.calls.waiting_count
        return len(self.running) == waiting_count and not self.has_place()

    def has_place(self) -> bool:
        """Return whether a call of a batch function may start; one that is ready goes before all other tasks."""
        return len(self.running) - len(self._beside) < self._free_size

    @property
    def could_call(self) -> bool:
        """Whether a call is ready and has a place, but does not start: there should be none."""
        return self.executor is not None and self.executor.calls.ready_count > 0 and self.has_place()

    def open(self, executor: Executor, on_freed: Callable[[], None]) -> None:
        """Let tasks start; `on_freed` hears of places that are free again without the end of an attempt."""
        self.executor = executor
        executor.on_freed = executor.calls.on_ended = on_freed
        executor.calls.has_place = self.has_place

    def start_calls(self) -> None:
        """Start the calls of batch functions that are ready, as far as there are places."""
        if self.executor is not None:
            self.executor.calls.start_ready()

    def hurry(self) -> None:
        """Let the calls of batch functions that are being gathered wait no longer."""
        if self.executor is not None:
            self.executor.calls.hurry()

    def in_hand(self) -> list[Attempt]:
        """Return all whose handler runs, those that hold up the event loop included."""
        return [*self.running, *(() if self._inline is None else (self._inline,))]

    def start(self, ready: Ready) -> None:
        """Begin an attempt: in a task of its own, unless its handler takes no time."""
        task = ready.task
        loaded = self._handlers.for_task(task)
        now_ms = self._clock_ms()
        since_ms = task.at_ms if task.due_at_ms is UNSET else max(task.at_ms, task.due_at_ms)
        begin = Attempt if self._tracing is None else self._tracing.begin
        context = Context(task, loaded.limits.time_limit_s, rules=loaded.limits.outputs)
        attempt = begin(ready, max(0, now_ms - since_ms), context, loaded)
        is_new = self._outcomes.start(attempt, now_ms)
        if loaded.beside:
            self._beside.add(attempt)
        if attempt.lane.careful:
            apart = not is_new and attempt.lane.runs_apart and loaded.address is not None
            if apart:
                log.info("%s was running when a worker died: it runs in a process of its own", describe(task))
                self._beside.add(attempt)
                attempt.loaded = loaded.without_own_backoff()
            # If it ends this worker, the next one must know that it ran.
            self._begin(attempt, self._run(attempt, self._outcomes.note(attempt), apart=apart))
            return
        if loaded.mode == "inline":
            self._inline = attempt
            try:
                result = _worked_inline(attempt) if attempt.traced else loaded.function(task, attempt.context)
            except BaseException as error:  # noqa: BLE001  # what a handler raises fails its task, sys.exit() included
                forked.end_if_child()
                self._fail(attempt, error)
            else:
                forked.end_if_child()
                self._outcomes.finish(attempt, result)
            self._inline = None
            if attempt.lane.lines.turns:
                self._on_end(attempt)
            return
        if loaded.batch is not None:
            self._join(attempt)
            return
        self._begin(attempt, self._run(attempt))

    def cancel_lane(self, lane: Lane) -> None:
        """Cancel what runs of a lane that is lost: its next owner runs it again."""
        for attempt in list(lane.running.values()):
            attempt.cancel()

    def cancel_where_asked(self) -> None:
        """Cancel what control wants cancelled."""
        for attempt in self.running:
            reason = self._control.is_cancelled(attempt.task)
            if reason is not None and attempt.cancel_reason is None and attempt.running is not None:
                attempt.cancel_reason = reason
                attempt.cancel()

    async def close(self) -> None:
        """Cancel what still runs, before the executor ends: a process killed with it would count as a failure."""
        executor, self.executor = self.executor, None
        running = [attempt.running for attempt in self.running if isinstance(attempt.running, asyncio.Task)]
        if executor is not None:
            running += executor.calls.tasks
        for attempt in self.running:
            attempt.cancel()
        if running:
            await asyncio.wait(running, timeout=_CLOSE_LIMIT_S)

    def _join(self, attempt: Attempt) -> None:
        """Let an attempt join a call, without a task of its own: that would cost as much as all else."""
        assert self.executor is not None
        self._note_begin(attempt)
        attempt.is_inside = True
        attempt.running = self.executor.calls.join(attempt.loaded, attempt.context, partial(self._call_ended, attempt))

    def _call_ended(self, attempt: Attempt, outcome: CallOutcome) -> None:
        attempt.begin_with_its_call()
        try:
            if outcome.error is None:
                self._outcomes.finish(attempt, outcome.value)
            elif isinstance(outcome.error, asyncio.CancelledError):
                self._cancelled(attempt)
            else:
                self._fail(attempt, outcome.error)
            self._note_end(attempt)
        except Exception as error:  # noqa: BLE001  # the event loop would only log it
            self._on_fault(error)

    def _note_begin(self, attempt: Attempt) -> None:
        self.running.add(attempt)
        attempt.lane.running[attempt.place] = attempt

    def _note_end(self, attempt: Attempt) -> None:
        if attempt.traced is not None:
            attempt.traced.end()
        self.running.discard(attempt)
        self._beside.discard(attempt)
        attempt.lane.running.pop(attempt.place, None)
        self._on_end(attempt)

    def _begin(self, attempt: Attempt, run: Coroutine[Any, Any, None]) -> None:
        self._note_begin(attempt)
        attempt.running = asyncio.create_task(run, context=attempt.context.within)

    async def _run(
        self,
        attempt: Attempt,
        noted: asyncio.Future[None] | None = None,
        *,
        apart: bool = False,
    ) -> None:
        attempt.is_inside = True
        try:
            try:
                result = await self._result(attempt, noted, apart=apart)
            except asyncio.CancelledError:
                self._cancelled(attempt)
            except BaseException as error:  # noqa: BLE001  # whatever a handler raises fails its task
                self._fail(attempt, error)
            else:
                self._outcomes.finish(attempt, result)
            finally:
                self._note_end(attempt)
        except Exception as error:  # noqa: BLE001  # the event loop would only log it
            self._on_fault(error)

    async def _result(self, attempt: Attempt, noted: asyncio.Future[None] | None, *, apart: bool) -> object:
        if attempt.cancelled_early:
            raise asyncio.CancelledError  # as if it came at the first await
        if noted is not None:
            await noted
            attempt.began_at_s = time.perf_counter()
        assert self.executor is not None
        run = self.executor.run_apart if apart else self.executor.run
        try:
            return await run(attempt.loaded, attempt.task, attempt.context)
        finally:
            if attempt.loaded.batch is not None:
                attempt.begin_with_its_call()

    def _cancelled(self, attempt: Attempt) -> None:
        if attempt.lane.lost or self.executor is None:
            # The partition is gone, or the worker stops: the task's next owner runs it again.
            return
        if attempt.cancel_reason is not None:
            self._outcomes.cancel(Ready(attempt.lane, attempt.record, attempt.task, attempt.place))
            return
        self._fail(attempt, HandlerError(_CANCELLED_BY_OTHERS))

    def _fail(self, attempt: Attempt, error: BaseException) -> None:
        try:
            self._outcomes.fail(attempt, error)
        except BaseException as broken:  # noqa: BLE001  # an error class is anybody's code, and the task must have an end
            said = f"an error of type {type(error).__name__} cannot be told ({type(broken).__name__})"
            self._outcomes.fail(attempt, HandlerError(said))


def _worked_inline(attempt: Attempt) -> object:
    """Run an inline handler within its span."""
    assert attempt.context.within is not None  # where there is a span
    return attempt.context.within.run(attempt.loaded.function, attempt.task, attempt.context)
