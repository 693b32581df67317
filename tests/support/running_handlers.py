"""What the tests of execution share: tasks, handlers in hand, and waiting for what another thread or process does."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
from histories import task_event

from agents.execution.executor import Executor
from agents.execution.loading import Handlers, LoadedHandler, mode_of, resolve
from agents.handlers import Context
from app.events import TaskCreated

if TYPE_CHECKING:
    from collections.abc import Callable

NOW_MS = 1_795_489_276_303
LONG_S = 60.0
"""A time limit that no test reaches."""


def some_task(content: str = "some content", *, attempt: int = 1) -> TaskCreated:
    """Return a task of the object `o1`."""
    task: TaskCreated = task_event(TaskCreated, "o1", 0, at_ms=NOW_MS, attempt=attempt)
    return msgspec.structs.replace(task, name="a name", content=content)


def in_hand(function: Any, name: str = "shop:work") -> LoadedHandler:
    """Return a function as a loaded handler."""
    return LoadedHandler(name, function, mode_of(function))


def by_name(name: str) -> LoadedHandler:
    """Return one of `sample_handlers`, as a worker loads it."""
    return in_hand(resolve(f"sample_handlers:{name}"), f"sample_handlers:{name}")


class Bench:
    """An executor, and short ways to run things on it."""

    def __init__(self, *handlers: LoadedHandler, **options: Any) -> None:
        """Make the executor, in the running loop."""
        known = Handlers(handlers[0], {handler.name: handler for handler in handlers[1:]})
        self.executor = Executor(known, **({"max_result_bytes": 1_000, "process_count": 1} | options))

    @staticmethod
    def context(task: TaskCreated | None = None, *, limit_s: float = LONG_S) -> Context:
        """Return the context of an attempt."""
        return Context(task or some_task(), limit_s)

    async def run(self, loaded: LoadedHandler, content: str = "some content", *, limit_s: float = LONG_S) -> object:
        """Run a handler on a task with that content."""
        context = self.context(some_task(content), limit_s=limit_s)
        return await self.executor.run(loaded, context.task, context)

    def begin(self, loaded: LoadedHandler, context: Context) -> asyncio.Task[object]:
        """Run a handler, and look at it meanwhile."""
        return asyncio.create_task(self.executor.run(loaded, context.task, context))


async def eventually(condition: Callable[[], Any], *, within_s: float = 30.0) -> None:
    """Wait until a condition holds that another thread or process brings about."""
    give_up_at_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_at_s, f"the condition did not come about within {within_s:g} s"
        await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Return whether a process is there; one that has ended and is not yet collected is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  # shorter
        return stat.read().rpartition(")")[2].split()[0] != "Z"
