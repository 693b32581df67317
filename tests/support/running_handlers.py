"""What the tests of execution share: tasks, handlers in hand, and waiting for what another thread or process does."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
from histories import task_event
from loaded_handlers import LONG_S

from agents.execution.executor import Executor
from agents.execution.loading import Handlers
from app.events import TaskCreated
from ebs import Context

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.execution.loading import LoadedHandler

NOW_MS = 1_795_489_276_303


def some_task(content: str = "some content", *, attempt: int = 1) -> TaskCreated:
    """Return a task of the object `o1`."""
    task: TaskCreated = task_event(TaskCreated, "o1", 0, at_ms=NOW_MS, attempt=attempt)
    return msgspec.structs.replace(task, name="a name", content=msgspec.Raw(msgspec.json.encode(content)))


class Bench:
    """An executor, and short ways to run things on it."""

    def __init__(self, *handlers: LoadedHandler, **options: Any) -> None:
        """Make the executor, in the running loop."""
        known = Handlers(handlers[0], {handler.name: handler for handler in handlers[1:]})
        self.executor = Executor(known, **({"process_count": 1} | options))

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
