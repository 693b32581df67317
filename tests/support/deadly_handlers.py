"""Handlers that leave their box, as the object's name says: they end their worker, or meddle with its process."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from fault_handlers import note

import ebs

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebs import Context, Task

KINDS = ("coroutine", "thread", "inline")
DEADLY = {
    "EBS_PROJECT": "deadly_handlers",
    "EBS_BACKOFF_S": "1",
    "EBS_MAX_ATTEMPTS": "2",
}
"""Settings of a worker that runs them."""
_TAKEN: list[int] = []


async def coroutine(task: Task, context: Context) -> int:
    """Take a moment, then do it."""
    note(task, context)
    await asyncio.sleep(_pause_s(task))
    return _act(task)


def thread(task: Task, context: Context) -> int:
    """Take a moment, then do it."""
    note(task, context)
    time.sleep(_pause_s(task))
    return _act(task)


@ebs.inline
def inline(task: Task, context: Context) -> int:
    """Do it at once."""
    note(task, context)
    return _act(task)


def _pause_s(task: Task) -> float:
    return 0.5 if task.name == "good" else 0.0


def _act(task: Task) -> int:
    if task.name in _ACTS:
        _ACTS[task.name]()
    return os.getpid()


def _cancel_all() -> None:
    for one in asyncio.all_tasks():
        one.cancel()


def _terminate_a_child() -> None:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    child.start()
    child.terminate()
    child.join()


def _leave_a_child() -> None:
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)


def _take_all_descriptors() -> None:
    with suppress(OSError):
        while True:
            _TAKEN.append(os.open(os.devnull, os.O_RDONLY))


def _freeze_the_time() -> None:
    time.monotonic = time.time = lambda: 0.0


_ACTS: dict[str, Callable[[], object]] = {
    "exit": lambda: os._exit(7),
    "segfault": lambda: ctypes.string_at(0),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "cancel all": _cancel_all,
    "terminate a child": _terminate_a_child,
    "leave a thread": lambda: threading.Thread(target=time.sleep, args=(600,)).start(),
    "leave a child": _leave_a_child,
    "take all descriptors": _take_all_descriptors,
    "freeze the time": _freeze_the_time,
}


project = ebs.Project()
for one in (coroutine, thread, inline):
    project.task(one.__name__)(one)
