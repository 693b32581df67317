"""A project whose functions wait, fail and return as a test wants, for tests with real workers.

The name of an object says which of its functions wait for a gate, a file that the test makes: `join-3` is a gate of
joins. The content of an object is how many tasks it is split into.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ebs import Context, Project, Reject, Task

ENDING = {"EBS_PROJECT": "ending_project", "EBS_BACKOFF_S": "1", "EBS_MAX_TASKS_PER_OBJECT": "10000"}
"""Settings of all processes that have it; `ENDING_GATES` is the folder of the gates."""
GATED, BROKEN, LARGE, NEVER = "gated", "broken", "large", "never"
LARGE_BYTES = 600_000
ATTEMPTS = 2

project = Project()


def is_open(gate: str) -> bool:
    """Return whether a gate is open."""
    return Path(os.environ["ENDING_GATES"], gate).exists()


async def pass_gate(role: str, name: object) -> None:
    """Wait until the gate is open, if it is one of the role."""
    while str(name).startswith(f"{role}-") and not is_open(str(name)):  # noqa: ASYNC110  # another process opens it
        await asyncio.sleep(0.02)


@project.split(LARGE)
@project.split(BROKEN)
@project.split(GATED)
async def split(task: Task[int], _context: Context) -> list[int]:
    """Split into as many tasks as the content says."""
    await pass_gate("split", task.name)
    return list(range(task.content))


@project.task(GATED)
async def work(task: Task[int], _context: Context) -> int:
    """Return the content."""
    await pass_gate("task", task.name)
    return task.content


@project.task(BROKEN)
async def work_once_mended(task: Task[int], _context: Context) -> int:
    """Return the content; the last task of three is refused until its gate is open."""
    if task.content == 2 and not is_open(str(task.name)):
        raise Reject("not mended yet")
    return task.content


@project.task(LARGE, max_result_bytes=LARGE_BYTES + 2)
async def work_large(_task: Task[int], _context: Context) -> str:
    """Return much."""
    return "x" * LARGE_BYTES


@project.join(LARGE)
@project.join(BROKEN)
@project.join(GATED)
async def join(results: list[int], context: Context) -> list[int]:
    """Return the results, or of very many how many they are and their sum."""
    await pass_gate("join", context.object.name)
    return results if len(results) < 100 else [len(results), sum(results)]


@project.split(NEVER, attempts=ATTEMPTS)
def never(_task: Task, _context: Context) -> list[int]:
    """Fail."""
    raise ValueError("no lines")


@project.task(NEVER)
async def after_never(_task: Task, _context: Context) -> None:
    """Do nothing."""
