"""A function that takes 10 ms, with a limit by key and without, and one that takes no time."""

from __future__ import annotations

import asyncio

from ebs import Context, Project, Task, inline

WORK_S = 0.01
KEYED = {"EBS_PROJECT": "keyed_project"}
"""Settings of all processes that have it."""

project = Project()


async def work(task: Task, _context: Context) -> int:
    """Wait for an answer."""
    await asyncio.sleep(WORK_S)
    return task.sequence


@inline
def nothing(_task: Task, _context: Context) -> None:
    """Take no time."""


project.task("free")(work)
project.task("keyed", per_key=1)(work)
project.task("instant")(nothing)
project.task("stopped")(nothing)
