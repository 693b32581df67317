"""Threads for plain handlers: as many as run at once, and the process never waits for a thread.

Python cannot end a thread. A thread whose result is not wanted any more is abandoned: another thread takes its place,
until its handler returns after all. Threads are daemons, so they do not keep the process alive. All counting is done
in the event loop, so nothing is locked.
"""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from app.process import forked

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ebs.context import Context
    from ebs.marks import Handler

log = logging.getLogger(__name__)

_IDLE_THREADS = 64
"""Threads kept for the next tasks; a new one costs 0.1 ms."""


class ThreadResult(NamedTuple):
    """The result of a handler, or its error."""

    value: Any
    error: BaseException | None


class ThreadRun:
    """A handler that runs in a thread; `ended` gets its outcome, unless it is abandoned before."""

    __slots__ = ("abandoned", "context", "ended", "function")

    def __init__(self, function: Handler, context: Context, ended: asyncio.Future[ThreadResult]) -> None:
        self.function = function
        self.context = context
        self.ended = ended
        self.abandoned = False


class HandlerThreads:
    """Runs handlers in threads; every method is called in the event loop. The caller bounds how many run at once.

    `on_freed` is called when a thread that was left behind ends after all.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, on_freed: Callable[[], None] = lambda: None) -> None:
        self._loop = loop
        self._on_freed = on_freed
        self._runs: SimpleQueue[ThreadRun | None] = SimpleQueue()
        self._idle_count = 0
        self._closed = False
        self.thread_count = 0
        self.abandoned_count = 0
        self.abandoned_running_count = 0

    def start(self, function: Handler, context: Context) -> ThreadRun:
        """Begin with a task; raises RuntimeError if the system gives us no more threads."""
        if self._idle_count:
            self._idle_count -= 1
        else:
            threading.Thread(target=self._work, name="ebs-handler", daemon=True).start()
            self.thread_count += 1
        run = ThreadRun(function, context, self._loop.create_future())
        self._runs.put(run)
        return run

    def abandon(self, run: ThreadRun) -> None:
        """Abandon a thread: its outcome is ignored."""
        run.abandoned = True
        self.abandoned_count += 1
        self.abandoned_running_count += 1

    def close(self) -> None:
        """End the idle threads, and the others as soon as their handlers return."""
        self._closed = True
        self._let_go(self._idle_count)

    def _work(self) -> None:
        while (run := self._runs.get()) is not None:
            outcome = _outcome_of(run)
            forked.end_if_child()
            try:
                self._loop.call_soon_threadsafe(self._ended, run, outcome)
            except RuntimeError:
                return  # the loop is closed: the process ends
            # An idle thread must not keep a task's content and result in memory.
            del run, outcome

    def _ended(self, run: ThreadRun, outcome: ThreadResult) -> None:
        self._idle_count += 1
        if self._closed or self._idle_count > _IDLE_THREADS:
            self._let_go(1)
        if run.abandoned:
            self.abandoned_running_count -= 1
            self._on_freed()
            log.info("the abandoned thread of task %s has ended", run.context.task.task_id)
        elif not run.ended.done():
            run.ended.set_result(outcome)

    def _let_go(self, count: int) -> None:
        for _ in range(count):
            self._runs.put(None)
        self._idle_count -= count
        self.thread_count -= count


def _outcome_of(run: ThreadRun) -> ThreadResult:
    try:
        context = run.context
        if context.within is not None:
            return ThreadResult(context.within.run(run.function, context.task, context), None)
        return ThreadResult(run.function(context.task, context), None)
    # Even SystemExit: it would end this thread without a word, and the task would never end.
    except BaseException as error:  # noqa: BLE001
        # Its trace holds this frame, and the run will hold the error: a circle, for the garbage collector to find.
        del run
        return ThreadResult(None, error)
