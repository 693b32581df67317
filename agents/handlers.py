"""What a handler is made of: its task, its context, the ways to fail, and the marks that say where it runs.

    # shop/images.py, used with EBS_HANDLERS='{"image": "shop.images:resize"}'
    from ebs import Context, Reject, Retry, Task

    async def resize(task: Task, context: Context) -> object:
        if not task.content.startswith("https://"):
            raise Reject("the content is no address of an image")
        async with asyncio.timeout_at(context.deadline):
            answer = await client.get(task.content)
        if answer.status_code == 429:
            raise Retry(delay_s=30, reason="the image server asks us to wait")
        context.progress(0.5, "fetched")
        ...
        return {"width": 96, "height": 64}

| written as | runs | over its time limit or cancelled |
| --- | --- | --- |
| `async def` | in the event loop | gets `CancelledError` where it awaits; left behind if it ignores that for 5 s |
| `def` | in a thread of its own | `context.cancelled` turns True; the thread is left behind, its result is not used |
| `@cpu_bound def` | in a process, as many at once as there are CPUs (EBS_HANDLER_PROCESSES) | the process is killed |
| `@inline def` | in the event loop, without any cost | must return at once: it holds up everything meanwhile |

A handler returns what can be written as JSON, up to EBS_MAX_RESULT_BYTES. It raises `Retry`, `Reject`, or anything
else, which is a failed attempt too. Its time limit is EBS_TASK_TIME_LIMIT_S for each attempt.

**Handlers run at least once.** After a crash, or when a worker loses its partitions, unfinished tasks run again, with
the same attempt number. What they return counts exactly once, what they do elsewhere does not: let it be idempotent,
with `task.task_id` (the same in every run) as the key. If two workers ended while a task ran, it runs in a process
apart, whatever its sort: nothing is there that was made in the worker's. `agents/examples.py` has complete ones.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from app.errors import EbsError
from app.events import TaskCreated

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from app.settings.settings.settings import ProcessTime

Task = TaskCreated
"""What there is to do: `task_id`, `object_id`, `kind`, `sequence` of `task_count`, `attempt`, `name`, `content`."""

MAX_PROGRESS_CHARS = 200
"""Of a progress message; more is cut off. In a process it must fit into one atomic write to a pipe."""

_log = logging.getLogger(__name__)


class Reject(EbsError):
    """The task can never succeed: no retry, it goes to the dead letters with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(EbsError):
    """This attempt failed and another one may succeed, `delay_s` from now at the earliest.

    Without a delay the usual back-off decides. Attempts and age stay limited (EBS_MAX_ATTEMPTS, EBS_MAX_TASK_AGE_H).
    """

    def __init__(self, delay_s: float | None = None, reason: str = "") -> None:
        if delay_s is not None and not isinstance(delay_s, int | float):
            raise TypeError(f"the delay comes first, in seconds: Retry(delay_s=10, reason=...), not {delay_s!r}")
        if delay_s is not None and not 0 <= delay_s < math.inf:
            raise ValueError(f"a delay is 0 or more seconds, not {delay_s}")
        super().__init__(reason or "the handler asks for another attempt")
        self.delay_s = delay_s
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the delay on the way out of a process: by default only the message would be handed on."""
        return type(self), (self.delay_s, self.reason), self.__dict__


class Progress(NamedTuple):
    """What a handler last said of its progress: 0.0 to 1.0, a message, and when (`time.monotonic()`)."""

    fraction: float
    message: str
    said_at_s: float


class TaskLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that begins each line with the task and its attempt, and sets `task_id` and `attempt` on the record."""

    def __init__(self, task: Task) -> None:
        super().__init__(_log, {"task_id": task.task_id, "attempt": task.attempt})
        self._prefix = f"task {task.task_id}, attempt {task.attempt}: "

    def log(self, level: int, msg: object, *args: Any, **options: Any) -> None:
        """Log a message."""
        # A percent sign of the task's id must not be taken for a place of one of the arguments.
        prefix = self._prefix.replace("%", "%%") if args else self._prefix
        options["stacklevel"] = options.get("stacklevel", 1) + 1
        super().log(level, f"{prefix}{msg}", *args, **options)

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """Add the task to the record, beside what the caller adds."""
        return msg, {**kwargs, "extra": {**(self.extra or {}), **(kwargs.get("extra") or {})}}


class Context(msgspec.Struct, eq=False):
    """One attempt of a task, as its handler sees it. Every method works in the loop, in a thread and in a process.

    A msgspec struct because one is made for every task: 0.05 us instead of 0.19 us for a class with slots (2026-11).
    """

    task: Task
    time_limit_s: float
    began_at_s: float = 0.0
    """`time.monotonic()` at the start of the handler; 0: nobody has looked yet."""
    cancelled: bool = False
    """Whether the result is not wanted any more: cancelled, over its time limit, or the task is another worker's now.

    Handlers that run in a thread look at it now and then. In a process it stays False: the process is killed instead.
    """
    last_progress: Progress | None = None
    within: contextvars.Context | None = None
    """Where the handler runs in, if somebody traces the task: its span is the current one there; not in a process."""

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self.task.attempt

    @property
    def deadline(self) -> float:
        """When the time limit is reached, in seconds of `time.monotonic()`, which is the event loop's clock too."""
        if not self.began_at_s:
            self.began_at_s = time.monotonic()
        return self.began_at_s + self.time_limit_s

    @property
    def remaining_s(self) -> float:
        """How much time is left until the deadline, 0.0 when it has passed: what to give a client as its timeout."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def log(self) -> TaskLog:
        """A logger that says which task and attempt a line is about."""
        return TaskLog(self.task)

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how much is done: from 0 to 1 (what lies outside is taken for the nearer one). Cheap, call it often.

        Only the last one is kept.
        """
        # In this order NaN becomes 0: no wrong division in a progress bar shall fail a task.
        share = min(max(0.0, fraction), 1.0)
        self.last_progress = Progress(share, message[:MAX_PROGRESS_CHARS], time.monotonic())


if TYPE_CHECKING:
    Handler = Callable[[Task, Context], Any]

_AnyHandler = TypeVar("_AnyHandler", bound="Callable[[Task, Context], Any]")


def inline(handler: _AnyHandler) -> _AnyHandler:
    """Mark a plain function that returns at once: it is called in the event loop, without a thread or a task.

    It has no time limit and cannot be cancelled, for nothing else runs meanwhile.
    """
    handler.ebs_inline = True  # type: ignore[attr-defined]  # a mark, read by `is_inline`
    return handler


def is_inline(handler: object) -> bool:
    """Return whether a handler was marked with `inline`."""
    return getattr(handler, "ebs_inline", False)


def cpu_bound(handler: _AnyHandler) -> _AnyHandler:
    """Mark a plain function that computes: it runs in another process, where it may take a whole CPU.

    The process imports the handler's module itself: what the module keeps in memory is not shared with the worker.
    """
    handler.ebs_cpu_bound = True  # type: ignore[attr-defined]  # a mark, read by `is_cpu_bound`
    return handler


def is_cpu_bound(handler: object) -> bool:
    """Return whether a handler was marked with `cpu_bound`."""
    return getattr(handler, "ebs_cpu_bound", False)


def default_handler(process_time: ProcessTime, draw: Callable[[float, float], float] = random.uniform) -> Handler:
    """Return the handler that takes `process_time`; one that takes none does not wait at all."""
    if process_time.high_s == 0:
        return _do_nothing

    async def take_time(_task: Task, _context: Context) -> None:
        await asyncio.sleep(draw(process_time.low_s, process_time.high_s))

    return take_time


@inline
def _do_nothing(_task: Task, _context: Context) -> None:
    """Finish at once."""
