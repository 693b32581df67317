"""An event loop whose time is virtual: it goes on at once to the next timer, so a minute costs what happens in it.

Everything that happens in a schedule happens in one such loop, in an order that depends on nothing but the seed: no
sockets, no threads, no clock of the machine. simloop and simloom do the like, but need Python 3.12, and neither kills
or freezes a part of the program.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

    from simulation.process import Process

EPOCH_MS = 1_795_489_276_000
"""The time of day at which each schedule begins."""
_MAX_CALLBACKS = 2_000_000
"""Of one schedule: more means that something turns in a circle without letting time pass."""

current_process: ContextVar[Process | None] = ContextVar("current_process", default=None)
"""The process that a callback belongs to; tasks and timers inherit it from whoever made them."""


class NothingToDo(Exception):
    """No callback is ready and no timer runs, though the main coroutine waits: it would wait for ever."""


class _Handle:
    """A callback that waits for its turn; asyncio's own does the same at three times the cost."""

    __slots__ = ("_arguments", "_callback", "context", "is_cancelled", "when_s")

    def __init__(self, when_s: float, callback: Callable[..., object], arguments: Any, context: Context | None) -> None:
        self.when_s = when_s
        self.context = copy_context() if context is None else context
        self.is_cancelled = False
        self._callback = callback
        self._arguments = arguments

    def cancel(self) -> None:
        """Never call it."""
        self.is_cancelled = True

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return self.is_cancelled

    def when(self) -> float:
        """Return when it is due."""
        return self.when_s

    def run(self) -> None:
        """Call it; an error that it does not catch ends its process, as nothing may hide."""
        try:
            self.context.run(self._callback, *self._arguments)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # as above
            process = self.context.get(current_process)
            if process is None:
                raise
            process.uncaught(error)


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order in which asyncio would, and jumps over the time between them.

    What belongs to a process in `frozen` is put aside until `thaw`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.frozen: dict[Process, list[_Handle]] = {}
        self.callback_count = 0
        self._due: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._timer_count = 0
        self.set_task_factory(_task_of_process)
        # What nobody has asked a future for is told when the garbage is collected, so by chance.
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        """Return the virtual time (s)."""
        return self.now_s

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        """Call it in the next turn."""
        handle = _Handle(self.now_s, callback, args, context)
        self._due.append(handle)
        return handle

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        """Call it at an instant of virtual time; what is due at the same one goes in the order of the calls."""
        handle = _Handle(when, callback, args, context)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        """Call it after so many seconds of virtual time."""
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def thaw(self, process: Process) -> None:
        """Let a frozen process go on with all that came for it meanwhile."""
        self._due.extend(self.frozen.pop(process))

    def _run_once(self) -> None:
        due, timers = self._due, self._timers
        while timers and timers[0][2].is_cancelled:
            heapq.heappop(timers)
        if not due:
            if not timers:
                raise NothingToDo
            self.now_s = max(self.now_s, timers[0][0])
        now_s = self.now_s
        while timers and timers[0][0] <= now_s:
            due.append(heapq.heappop(timers)[2])
        self.callback_count += len(due)
        for _ in range(len(due)):
            handle = due.popleft()
            if handle.is_cancelled:
                continue
            if self.frozen and (waiting := self.frozen.get(handle.context.get(current_process))) is not None:
                waiting.append(handle)
                continue
            handle.run()
        if self.callback_count > _MAX_CALLBACKS:
            raise RuntimeError(f"the schedule does not end: {_MAX_CALLBACKS} callbacks by {self.now_s:.3f} s")

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


@contextmanager
def virtual_clock(loop: SimulatedLoop) -> Iterator[None]:
    """Let the clocks of the module `time`, which product and aiokafka read, show the loop's time.

    The time of day of a process may be wrong (`Process.clock_ahead_s`).
    """

    def day_s() -> float:
        process = current_process.get()
        return loop.now_s if process is None else loop.now_s + process.clock_ahead_s

    clocks = {
        "time": lambda: EPOCH_MS / 1_000 + day_s(),
        "time_ns": lambda: EPOCH_MS * 1_000_000 + round(day_s() * 1e9),
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
