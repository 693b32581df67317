"""Handlers that other processes can import by name: good ones, bad ones, and things that are none."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebs import Project, Reject, Retry, cpu_bound, inline

if TYPE_CHECKING:
    from ebs import Context, Task


def plain(task: Task, _context: Context) -> str:
    """Return the object's content."""
    return str(task.content)


async def coroutine(task: Task, _context: Context) -> str:
    """Return the object's content."""
    return str(task.content)


@inline
def at_once(task: Task, _context: Context) -> str:
    """Return the object's content."""
    return str(task.content)


@cpu_bound
def compute(task: Task, context: Context) -> dict[str, Any]:
    """Say where it runs and what it sees."""
    context.progress(0.5, "half")
    return {
        "pid": os.getpid(),
        "content": task.content,
        "attempt": context.attempt,
        "remaining_s": context.remaining_s,
        "cancelled": context.cancelled,
    }


@cpu_bound
def log_lines(_task: Task, context: Context) -> None:
    """Say something in the log."""
    context.log.info("100%% of %s", "it")


@cpu_bound
def never_end(_task: Task, context: Context) -> None:
    """Compute for ever, deaf to all that can be caught, and say in which process."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context.progress(0.5, str(os.getpid()))
    while True:
        time.sleep(0.01)


@cpu_bound
def leave_a_trace(task: Task, _context: Context) -> None:
    """Make the file that the content names."""
    Path(str(task.content)).touch()


class Odd(Exception):
    """An error that can be pickled but not read back."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Unprintable(Odd):
    """Another one, without a text besides."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Panic(BaseException):
    """An error that is no Exception, and cannot be pickled."""

    def __reduce__(self) -> Any:
        raise Panic("twice")


class Deadly(Exception):
    """An error that ends the process that is not `made_in` when it is read back."""

    def __reduce__(self) -> Any:
        return end_other_process, (os.getpid(),)


def end_other_process(pid: int) -> Exception:
    """End any process but one, and there raise."""
    if os.getpid() != pid:
        os._exit(3)
    raise Panic("not here")


ENDINGS: dict[str, Any] = {
    "value error": lambda: _throw(ValueError("seen")),
    "timeout error": lambda: _throw(TimeoutError("its own")),
    "retry": lambda: _throw(Retry(2.5, "busy")),
    "reject": lambda: _throw(Reject("no image")),
    "odd": lambda: _throw(Odd("one", "two")),
    "unprintable": lambda: _throw(Unprintable("one", "two")),
    "panic": lambda: _throw(Panic("of its own")),
    "deadly to read": lambda: _throw(Deadly("to read")),
    "exit": lambda: sys.exit("enough"),
    "interrupt": lambda: _throw(KeyboardInterrupt()),
    "block": lambda: time.sleep(600),
    "kill the group": lambda: os.killpg(0, signal.SIGKILL),
    "die": functools.partial(os._exit, 3),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "no JSON": object,
    "long": lambda: "x" * 2_000,
}


@cpu_bound
def end(task: Task, _context: Context) -> Any:
    """End as the object's content says."""
    return ENDINGS[str(task.content)]()


async def end_in_the_loop(task: Task, _context: Context) -> Any:
    """End as the object's content says; `wait` and `block` do not, each in its way."""
    if task.content == "wait":
        await asyncio.Event().wait()
    return ENDINGS[str(task.content)]()


def end_in_a_thread(task: Task, _context: Context) -> Any:
    """End as the object's content says."""
    return ENDINGS[str(task.content)]()


@inline
def end_at_once(task: Task, _context: Context) -> Any:
    """End as the object's content says."""
    return ENDINGS[str(task.content)]()


def _throw(error: Any) -> None:
    raise error


async def async_generator(_task: Task, _context: Context) -> Any:
    """Yield, which no handler may."""
    yield 1


def generator(_task: Task, _context: Context) -> Any:
    """Yield, which no handler may."""
    yield 1


def only_task(_task: Task) -> None:
    """Take too few arguments."""


def keyword_needed(_task: Task, _context: Context, *, _size: int) -> None:
    """Want more than there is."""


def with_default(task: Task, _context: Context, _size: int = 3, *_more: int, **_others: int) -> str:
    """Take more, but need it not."""
    return str(task.content)


@inline
async def inline_coroutine(_task: Task, _context: Context) -> None:
    """Be two things at once."""


@cpu_bound
async def cpu_bound_coroutine(_task: Task, _context: Context) -> None:
    """Be two things at once."""


@cpu_bound
@inline
def two_marks(_task: Task, _context: Context) -> None:
    """Be two things at once."""


class Resizer:
    """A class, whose instances are handlers."""

    async def __call__(self, task: Task, _context: Context) -> str:
        """Return the object's content."""
        return str(task.content)

    def method(self, task: Task, _context: Context) -> str:
        """Return the object's content."""
        return str(task.content)


instance = Resizer()
partial = functools.partial(with_default, _size=4)
number = 7

project = Project()
"""All that work, each by its own name as the kind."""
for one in (plain, coroutine, at_once, compute, log_lines, never_end, leave_a_trace, with_default, instance, partial):
    name = getattr(one, "__name__", "instance" if one is instance else "partial")
    project.task(name)(one)
for one in (end, end_in_the_loop, end_in_a_thread, end_at_once):
    project.task(one.__name__)(one)
project.task("instance.method")(instance.method)

two_kinds = Project()
"""Of two kinds, as most users' are."""
two_kinds.task("image")(compute)
two_kinds.task("mail")(plain)
empty = Project()
