"""A project for the tasks of all kinds, of which one has a queue of its own."""

from __future__ import annotations

from ebs import Context, Project, Task, inline

project = Project()
QUEUED, QUEUE = "queued", "side"


@project.task(QUEUED, queue=QUEUE)
@project.task("*")
@inline
def anything(_task: Task, _context: Context) -> None:
    """Do nothing."""
