"""A user's function as a handler, which takes the request of a task: the content is decoded where the function runs."""

from __future__ import annotations

import functools
import inspect
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from ebs.errors import Reject
from ebs.pieces import pieces_from, pieces_of_split
from ebs.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.events import TaskCreated
    from ebs.batch_context import BatchContext
    from ebs.context import Context
    from ebs.function import Function

    Handler = Callable[[Any, Context], Any]
    """It gets the request of a task, `TaskCreated`; of a batch function, the requests are in its `BatchContext`."""


def as_handler(function: Function) -> Handler:
    """Return a user's function as a handler."""
    call, name, is_split = function.call, function.name, function.role == "split"
    read = _read_results if function.role == "join" else _read_task
    if function.policy.batch is not None:
        return _as_batch_handler(function)

    async def coroutine(request: TaskCreated, context: Context) -> Any:
        returned = call(read(function, request, context), context)
        if not is_split:
            return await returned
        if inspect.isasyncgen(returned):
            return await pieces_from(returned, f"the split {name}")
        return pieces_of_split(await returned, name)

    def plain(request: TaskCreated, context: Context) -> Any:
        returned = call(read(function, request, context), context)
        return pieces_of_split(returned, name) if is_split else returned

    return functools.update_wrapper(coroutine if function.mode == "coroutine" else plain, call)


def _as_batch_handler(function: Function) -> Handler:
    """Return a batch function as a handler: it returns a result or an exception for each task of its context.

    A task whose content does not fit has its `Reject` there; the function does not see it.
    """
    call, name, kind = function.call, function.name, function.kind

    async def coroutine(_request: TaskCreated, context: Any) -> list[Any]:
        read = _read_tasks(function, context)
        tasks = [one for one in read if isinstance(one, Task)]
        return _outcomes(read, await call(tasks, context) if tasks else [], name, kind)

    def plain(_request: TaskCreated, context: Any) -> list[Any]:
        read = _read_tasks(function, context)
        tasks = [one for one in read if isinstance(one, Task)]
        return _outcomes(read, call(tasks, context) if tasks else [], name, kind)

    return functools.update_wrapper(coroutine if function.mode == "coroutine" else plain, call)


def handler_at(frame: FrameType) -> str | None:
    """Return which handler a frame of `as_handler` runs: it reads the content before the function begins."""
    return frame.f_locals.get("name") if frame.f_code in _INSIDES else None


_INSIDES = frozenset(
    one
    for maker in (as_handler, _as_batch_handler)
    for one in maker.__code__.co_consts
    if isinstance(one, CodeType) and "name" in one.co_freevars
)


def _read_task(function: Function, request: TaskCreated, context: Context) -> Task:
    context.task = task = _task_of(request, function.decode(bytes(request.content)))
    return task


def _read_tasks(function: Function, context: BatchContext) -> list[Task | Reject]:
    """Return the tasks of a call; in place of one whose content does not fit, why."""
    read: list[Task | Reject] = []
    for one in context.contexts:
        try:
            read.append(_read_task(function, one.task, one))  # type: ignore[arg-type]  # the request, until it is read
        except Reject as error:
            read.append(error)
    return read


def _read_results(function: Function, request: TaskCreated, context: Context) -> Any:
    context.task = _task_of(request, None)
    if request.refusal is not msgspec.UNSET:
        raise Reject(request.refusal)
    return function.decode(bytes(request.content))


def _outcomes(read: list[Task | Reject], returned: Any, name: str, kind: str) -> list[Any]:
    """Return what became of each task that was `read`. Raises `Reject` if the function returned something else."""
    count = sum(isinstance(one, Task) for one in read)
    who = f"the function of kind {kind}, {name}, got {count} task{'' if count == 1 else 's'}"
    if not isinstance(returned, list | tuple):
        hint = ": write it as `async def`" if inspect.isawaitable(returned) else ""
        if inspect.iscoroutine(returned):
            returned.close()  # nobody will await it, and Python would warn of that later
        raise Reject(f"{who} and returned a {type(returned).__name__}: it must return a list of {count}{hint}")
    if len(returned) != count:
        raise Reject(
            f"{who} and returned a list of {len(returned)}: it must return a result, or an exception, for each task, "
            "in their order"
        )
    results = iter(returned)
    return [next(results) if isinstance(one, Task) else one for one in read]


def _task_of(request: TaskCreated, content: Any) -> Task:
    return Task(
        request.id,
        request.object_id,
        request.task_id,
        request.object_partition,
        request.kind,
        request.sequence,
        request.task_count,
        request.attempt,
        request.at_ms,
        request.name,
        content,
        request.redrive,
        request.depth,
        request.key,
    )
