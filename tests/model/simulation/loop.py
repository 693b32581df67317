"""An event loop whose time is virtual: it goes on at once to the next timer, so a minute costs what happens in it.

Everything that happens in a schedule happens in one such loop, in an order that depends on nothing but the seed: no
sockets, no threads, no clock of the machine. simloop and simloom do the like, but need Python 3.12, and neither kills
or freezes a part of the program.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulation.process import Process

EPOCH_MS = 1_795_489_276_000
"""The time of day at which each schedule begins."""
_MAX_CALLBACKS = 2_000_000
"""Of one schedule: more means that something turns in a circle without letting time pass."""

current_process: ContextVar[Process | None] = ContextVar("current_process", default=None)
"""The process that a callback belongs to; tasks and timers inherit it from whoever made them."""


class NothingToDo(Exception):
    """No callback is ready and no timer runs, though the main coroutine waits: it would wait for ever."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order in which asyncio would, and jumps over the time between them.

    What belongs to a process in `frozen` is put aside until `thaw`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.frozen: dict[Process, list[asyncio.Handle]] = {}
        self.callback_count = 0
        self.set_task_factory(_task_of_process)
        self.set_exception_handler(_note_error)

    def time(self) -> float:
        """Return the virtual time (s)."""
        return self.now_s

    def thaw(self, process: Process) -> None:
        """Let a frozen process go on with all that came for it meanwhile."""
        self._ready.extend(self.frozen.pop(process))

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise NothingToDo
            self.now_s = max(self.now_s, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self.now_s:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            if self.frozen and (waiting := self.frozen.get(handle._context.get(current_process))) is not None:
                waiting.append(handle)
                continue
            handle._run()
        self.callback_count += 1
        if self.callback_count > _MAX_CALLBACKS:
            raise RuntimeError(f"the schedule does not end: {_MAX_CALLBACKS} turns by {self.now_s:.3f} s")

    def _process_events(self, event_list: Any) -> None:
        """Do nothing: there are no sockets."""

    def _write_to_self(self) -> None:
        """Do nothing: there are no other threads."""


def _task_of_process(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Make a task that dies with the process in which it was made."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    process = current_process.get() if context is None else context.get(current_process)
    if process is not None:
        process.own(task)
    return task


def _note_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Let an error that a callback has not caught end its process, as nothing may hide.

    What nobody has asked a future or a task for is told when the garbage is collected, so by chance: it is passed over.
    """
    process, error = current_process.get(), context.get("exception")
    if process is not None and error is not None and "handle" in context:
        process.uncaught(error)


@contextmanager
def virtual_clock(loop: SimulatedLoop) -> Iterator[None]:
    """Let the clocks of the module `time`, which product and aiokafka read, show the loop's time."""
    clocks = {
        "time": lambda: EPOCH_MS / 1_000 + loop.now_s,
        "time_ns": lambda: EPOCH_MS * 1_000_000 + round(loop.now_s * 1e9),
        "monotonic": lambda: loop.now_s,
        "perf_counter": lambda: loop.now_s,
    }
    real = {name: getattr(time, name) for name in clocks}
    try:
        for name, clock in clocks.items():
            setattr(time, name, clock)
        yield
    finally:
        for name, clock in real.items():
            setattr(time, name, clock)
