"""A project with one function, for the tasks of all kinds."""

from __future__ import annotations

from ebs import Context, Project, Task, inline

project = Project()


@project.task("*")
@inline
def anything(_task: Task, _context: Context) -> None:
    """Do nothing."""
