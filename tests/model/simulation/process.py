"""A process of the model: a set of tasks with connections, which can be killed and frozen at any moment.

A killed process does nothing to the world any more: its connections are cut first, then its tasks are cancelled, and
whatever they do about it reaches nobody. What it had sent before may still arrive.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, NoReturn

from fakes import ProcessEnded

from simulation.loop import current_process

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from simulation.loop import SimulatedLoop
    from simulation.network import Connection

UNCAUGHT = "uncaught"
"""The first word of the cause where an error got past everybody who should end the process."""


class Process:
    """`name` is the worker's, `life` counts its lives; `cause` says why it has ended.

    `on_end` hears of its end once, however it comes. `clock_ahead_s` says by how much its time of day is wrong.
    """

    def __init__(self, loop: SimulatedLoop, name: str, life: int, on_end: Callable[[Process], None]) -> None:
        self.name = name
        self.life = life
        self.cause = ""
        self.is_alive = True
        self.clock_ahead_s = 0.0
        self.worker: Any = None
        self.connections: dict[Connection, None] = {}
        self.at_death: list[Callable[[], None]] = []
        self._loop = loop
        self._on_end = on_end
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def __str__(self) -> str:
        return f"{self.name}.{self.life}"

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine as the whole of this process."""
        context = contextvars.copy_context()
        context.run(current_process.set, self)
        self._loop.create_task(coroutine, context=context)

    def own(self, task: asyncio.Task[Any]) -> None:
        """Let a task die with this process."""
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        if not self.is_alive:
            task.cancel()

    def fatal(self, error: BaseException) -> NoReturn:
        """End the process, as `app.streaming.application.end_process` does."""
        cause = f" because of {error.__cause__!r}" if error.__cause__ is not None else ""
        self.end(f"{type(error).__name__}: {error}{cause}")
        raise ProcessEnded(str(error)) from error

    def uncaught(self, error: BaseException) -> None:
        """End the process because of an error that got away; a product that catches all has none."""
        if not isinstance(error, ProcessEnded):
            self.end(f"{UNCAUGHT} {type(error).__name__}: {error}")

    def end(self, cause: str) -> None:
        """Kill the process."""
        if not self.is_alive:
            return
        self.is_alive = False
        self.cause = cause
        for connection in list(self.connections):
            connection.cut()
        for task in list(self._tasks):
            task.cancel()
        for call in self.at_death:
            call()
        if self in self._loop.frozen:
            self._loop.thaw(self)
        self._on_end(self)

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP)."""
        if self.is_alive:
            self._loop.frozen.setdefault(self, [])

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        if self in self._loop.frozen:
            self._loop.thaw(self)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()
