"""A handler whose result is what it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebs import Context, Task


async def echo(task: Task, _context: Context) -> object:
    """Return the content and the name of the task."""
    return [task.content, task.name]
