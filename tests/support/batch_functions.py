"""Batch functions of each sort, which other processes can import: they do with each task what its content says."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from ebs import BatchContext, Context, Project, Reject, Retry, Task, cpu_bound

if TYPE_CHECKING:
    from collections.abc import Callable

SORTS = ("coroutine", "thread", "process")
CALLS: list[list[str]] = []
"""The contents of the calls in this process."""
SIZE = 4
POLICY: dict[str, Any] = {"batch": SIZE, "batch_wait_s": 0.02, "attempts": 3, "backoff": 0.01}

project = Project()


@project.task("coroutine", **POLICY)
async def coroutine(tasks: list[Task[str]], context: BatchContext) -> list[Any]:
    """Do it in the event loop."""
    if any(task.content == "slow" for task in tasks):
        await asyncio.sleep(60)
    return _act(tasks, context)


@project.task("thread", **POLICY)
def thread(tasks: list[Task[str]], context: BatchContext) -> list[Any]:
    """Do it in a thread."""
    while any(task.content == "slow" for task in tasks) and not context.cancelled:
        time.sleep(0.005)
    return _act(tasks, context)


@project.task("process", **POLICY)
@cpu_bound
def process(tasks: list[Task[str]], context: BatchContext) -> list[Any]:
    """Do it in a process."""
    if any(task.content == "slow" for task in tasks):
        time.sleep(60)
    return _act(tasks, context)


def _act(tasks: list[Task[str]], context: BatchContext) -> list[Any]:
    CALLS.append([task.content for task in tasks])
    for task in tasks:
        own: Context = context.of(task)
        own.progress(0.5, task.content)
        own.submit("thread", task.content)
        if task.content in _WHOLE:
            return _WHOLE[task.content](tasks)
    return [_PARTS.get(task.content, lambda content=task.content: f"{content}!")() for task in tasks]


def _throw(error: Exception) -> Any:
    raise error


_WHOLE: dict[str, Callable[[Any], Any]] = {
    "raise": lambda _: _throw(ValueError("one of them is poison")),
    "wait": lambda _: _throw(Retry(7, "busy")),
    "die": lambda _: os._exit(3),
    "too few": lambda tasks: [None] * (len(tasks) - 1),
    "no list": lambda tasks: {task.task_id: None for task in tasks},
}
"""What becomes of the call as soon as one task asks for it."""
_PARTS: dict[str, Callable[[], Any]] = {
    "error": lambda: ValueError("not this one"),
    "reject": lambda: Reject("never"),
    "retry": lambda: Retry(2.5, "busy"),
    "exit": lambda: SystemExit(2),
    "no JSON": object,
    "long": lambda: "x" * 70_000,
}
"""What becomes of one task."""
