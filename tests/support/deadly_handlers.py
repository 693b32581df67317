"""Handlers that leave their box, as the object's name says: they end their worker, or meddle with its process."""

from __future__ import annotations

import asyncio
import ctypes
import json
import multiprocessing
import os
import threading
import time
from typing import TYPE_CHECKING

from fault_handlers import note

from agents import handlers

if TYPE_CHECKING:
    from ebs import Context, Task

KINDS = ("coroutine", "thread", "inline")
DEADLY = {
    "EBS_HANDLERS": json.dumps({kind: f"deadly_handlers:{kind}" for kind in KINDS}),
    "EBS_RETRY_TIERS_S": "1",
    "EBS_MAX_ATTEMPTS": "2",
}
"""Settings of a worker that runs them."""


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


@handlers.inline
def inline(task: Task, context: Context) -> int:
    """Do it at once."""
    note(task, context)
    return _act(task)


def _pause_s(task: Task) -> float:
    return 0.5 if task.name == "good" else 0.0


def _act(task: Task) -> int:
    match task.name:
        case "exit":
            os._exit(7)
        case "segfault":
            ctypes.string_at(0)
        case "cancel all":
            for one in asyncio.all_tasks():
                one.cancel()
        case "terminate a child":
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
            child.start()
            child.terminate()
            child.join()
        case "leave a thread":
            threading.Thread(target=time.sleep, args=(600,)).start()
        case "leave a child":
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)
    return os.getpid()
