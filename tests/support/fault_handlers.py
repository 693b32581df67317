"""Handlers for tests with real workers: they fail by plan, and write down each of their runs."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ebs import Project, Reject

if TYPE_CHECKING:
    from ebs import Context, Task

FLAKY_ATTEMPTS = 3
PLANNED = {"EBS_PROJECT": "fault_handlers", "EBS_BACKOFF_S": "1", "EBS_MAX_ATTEMPTS": "3"}
"""Settings of a worker that does what objects' names say."""


def note(task: Task, context: Context) -> None:
    """Write a run down, in one write, so that runs of several processes do not mix."""
    path = os.environ.get("FAULT_HANDLER_RUNS")
    if path:
        with Path(path).open("ab", buffering=0) as runs:
            runs.write(f"{task.task_id} {context.attempt}\n".encode())


async def planned(task: Task, context: Context) -> str:
    """Do what the object's name says: fail always or some times, be rejected, take time; else finish."""
    note(task, context)
    if task.name == "poison":
        raise ValueError(f"cannot work on {task.task_id}")
    if task.name == "flaky" and context.attempt < FLAKY_ATTEMPTS:
        raise ConnectionError("not yet")
    if task.name == "reject":
        raise Reject("no use")
    if task.name.startswith("slow"):
        await asyncio.sleep(float(task.name.removeprefix("slow ")))
    return f"done at attempt {context.attempt}"


def stuck(_task: Task, _context: Context) -> None:
    """Take no notice of any time limit: the thread is left behind."""
    time.sleep(600)


project = Project()
project.task("*")(planned)
project.task("stuck")(stuck)
