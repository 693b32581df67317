"""The names that users import: the clients of the API (`Client`, `AsyncClient`), and the parts of a project.

A project has functions, which get a task and a context. They can raise `Retry` and `Reject`, and decorators say where
they run:

    # shop/images.py, used with `ebs up --project shop.images`
    from ebs import Context, Project, Reject, Retry, Task

    project = Project()

    @project.task("image", attempts=5, time_limit_s=30)
    async def resize(task: Task[str], context: Context) -> object:
        if not task.content.startswith("https://"):
            raise Reject("the content is not the address of an image")
        async with asyncio.timeout_at(context.deadline):
            answer = await client.get(task.content)
        if answer.status_code == 429:
            raise Retry(delay_s=30, reason="the image server asks us to wait")
        context.progress(0.5, "fetched")
        ...
        return {"width": 96, "height": 64}

| written as | runs | over its time limit or cancelled |
| --- | --- | --- |
| `async def` | in the event loop | gets `CancelledError` where it awaits; abandoned if it ignores that for 5 s |
| `def` | in a thread of its own | `context.cancelled` becomes True; the thread is abandoned, its result is not used |
| `@cpu_bound def` | in a process, as many at once as there are CPUs (EBS_HANDLER_PROCESSES) | the process is killed |
| `@inline def` | in the event loop, without any cost | must return at once: it blocks everything else meanwhile |

A handler returns any JSON value of up to EBS_MAX_RESULT_BYTES. If it raises `Retry`, `Reject` or any other error, the
attempt has failed. The time limit is for each attempt.

**Handlers run at least once.** After a crash, or when a worker loses its partitions, unfinished tasks run again, with
the same attempt number. The result counts exactly once, but side effects happen again: make them idempotent, with
`task.task_id` (the same in every run) as the key. If two workers died while a task ran, the task runs in a separate
process, however the handler is written: it does not see the worker's variables. `agents/examples.py` has complete
handlers.

PYTEST_DONT_REWRITE: this file is imported before pytest can, which would warn in each run because of our plugin.
"""
# Every Python of the environment imports this file at its start (`ebs/start.py`): it imports a name at its first use.

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ebs.batch_context import BatchContext
    from ebs.client.answers import (
        CallbackStatus,
        Cancelled,
        ObjectEvent,
        ObjectStatus,
        Redrive,
        RefusedObject,
        Submitted,
        TaskStatus,
    )
    from ebs.client.bodies import NewObject
    from ebs.client.clients import AsyncClient, Client
    from ebs.client.errors import (
        AccessDenied,
        ApiBusy,
        ApiError,
        ApiUnreachable,
        Conflict,
        Invalid,
        NotFound,
        ObjectCancelled,
        ObjectFailed,
        SubmitFailed,
        TooLarge,
        WaitTimedOut,
    )
    from ebs.context import Context
    from ebs.errors import EbsError, Reject, Retry, SettingsError
    from ebs.item import Item
    from ebs.marks import cpu_bound, inline
    from ebs.project import Project
    from ebs.task import Task

__all__ = [
    "AccessDenied",
    "ApiBusy",
    "ApiError",
    "ApiUnreachable",
    "AsyncClient",
    "BatchContext",
    "CallbackStatus",
    "Cancelled",
    "Client",
    "Conflict",
    "Context",
    "EbsError",
    "Invalid",
    "Item",
    "NewObject",
    "NotFound",
    "ObjectCancelled",
    "ObjectEvent",
    "ObjectFailed",
    "ObjectStatus",
    "Project",
    "ProjectRefused",
    "Redrive",
    "RefusedObject",
    "Reject",
    "Retry",
    "SettingsError",
    "SubmitFailed",
    "Submitted",
    "Task",
    "TaskStatus",
    "TooLarge",
    "WaitTimedOut",
    "cpu_bound",
    "inline",
]

_FILES = {
    "AccessDenied": "client.errors",
    "ApiBusy": "client.errors",
    "ApiError": "client.errors",
    "ApiUnreachable": "client.errors",
    "AsyncClient": "client.clients",
    "BatchContext": "batch_context",
    "CallbackStatus": "client.answers",
    "Cancelled": "client.answers",
    "Client": "client.clients",
    "Conflict": "client.errors",
    "Context": "context",
    "EbsError": "errors",
    "Invalid": "client.errors",
    "Item": "item",
    "NewObject": "client.bodies",
    "NotFound": "client.errors",
    "ObjectCancelled": "client.errors",
    "ObjectEvent": "client.answers",
    "ObjectFailed": "client.errors",
    "ObjectStatus": "client.answers",
    "Project": "project",
    "ProjectRefused": "errors",
    "Redrive": "client.answers",
    "RefusedObject": "client.answers",
    "Reject": "errors",
    "Retry": "errors",
    "SettingsError": "errors",
    "SubmitFailed": "client.errors",
    "Submitted": "client.answers",
    "Task": "task",
    "TaskStatus": "client.answers",
    "TooLarge": "client.errors",
    "WaitTimedOut": "client.errors",
    "cpu_bound": "marks",
    "inline": "marks",
}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  # see above

    value = globals()[name] = getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
    return value
