"""A project whose functions submit objects and send records, one of each sort of function; the content says what."""

from __future__ import annotations

import asyncio
from typing import Any

from ebs import Context, Project, Reject, Retry, Task, cpu_bound, inline

SORTS = ("coroutine", "thread", "process", "inline")

project = Project()


def produce(task: Task[Any], context: Context) -> list[str]:
    """Submit and send what the content lists, then end as it says; returns the ids."""
    wanted = task.content if isinstance(task.content, dict) else {}
    ids = [context.submit(**one) for one in wanted.get("submit", ())]
    for one in wanted.get("send", ()):
        context.send(**one)
    if wanted.get("then") == "fail":
        raise ValueError("after all calls")
    if wanted.get("then") == "retry" and context.attempt == 1:
        raise Retry(0)
    if wanted.get("then") == "reject":
        raise Reject("after all calls")
    if wanted.get("then") == "no-json":
        return [object()]  # type: ignore[list-item]  # what no result can be
    return ids


@project.task("coroutine", attempts=2)
async def coroutine(task: Task[Any], context: Context) -> list[str]:
    """Produce in the event loop."""
    await asyncio.sleep(0)
    return produce(task, context)


@project.task("thread", attempts=2)
def thread(task: Task[Any], context: Context) -> list[str]:
    """Produce in a thread."""
    return produce(task, context)


@project.task("process", attempts=2)
@cpu_bound
def process(task: Task[Any], context: Context) -> list[str]:
    """Produce in a process."""
    return produce(task, context)


@project.task("inline", attempts=2)
@inline
def at_once(task: Task[Any], context: Context) -> list[str]:
    """Produce inline."""
    return produce(task, context)


@project.task("joined")
@inline
def part(_task: Task[Any], _context: Context) -> None:
    """Do nothing: split and join produce."""


@project.split("joined")
def parts(task: Task[Any], context: Context) -> list[int]:
    """Produce, and split into two."""
    produce(task, context)
    return [1, 2]


@project.join("joined")
def join(results: list[Any], context: Context) -> list[str]:
    """Submit one object."""
    own = context.object
    return [context.submit("inline", results, name=f"{own.kind} {own.id} {own.name}")]


late: list[Context] = []
"""The contexts of the kind `late`."""


@project.task("late")
async def keep(_task: Task[Any], context: Context) -> None:
    """Keep the context beyond the end."""
    late.append(context)
