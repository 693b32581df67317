"""A project whose dependencies are in no image of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import humanize
import inflection

from ebs import Project

if TYPE_CHECKING:
    from ebs import Context, Task

project = Project()


@project.task("*")
async def describe(task: Task, context: Context) -> str:  # noqa: ARG001  # what a handler takes
    """Return the task's content in words."""
    return f"{inflection.titleize(task.name)}: {humanize.intcomma(task.content)}"
