"""The context of one call of a batch function, with the context of each of its tasks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from ebs.context import Context
from ebs.errors import Reject

if TYPE_CHECKING:
    from ebs.task import Task

__all__ = ["BatchContext"]

_log = logging.getLogger("ebs.task")


class BatchContext(Context, eq=False):
    """One call of a batch function (`@project.task(..., batch=64)`): its time limit, and the context of each task.

    `cancelled` becomes True at the time limit, or when no task of the call is wanted any more. What belongs to one task
    is in `context.of(task)`: `context.submit` and `context.send` raise `Reject`, and say so.
    """

    contexts: list[Context] = msgspec.field(default_factory=list)
    """Of the tasks, in their order; `task` is the first one's."""
    by_id: dict[str, Context] = msgspec.field(default_factory=dict)
    """The same by task id; made when it is asked for."""

    def of(self, task: Task) -> Context:
        """Return the context of one task of the call, with its `submit`, `send`, `progress` and `log`.

        What it submits and sends exists if the attempt of this task finishes, whatever becomes of the others.
        """
        if not self.by_id:
            self.by_id = {one.task.task_id: one for one in self.contexts}
        try:
            return self.by_id[task.task_id]
        except KeyError:
            raise Reject(f"context.of: the task {task.task_id} is not one of this call") from None

    @property
    def attempt(self) -> int:
        """Raises `Reject`: each task has its own, `task.attempt`."""
        raise Reject("context.attempt: a call of a batch function has many tasks: write task.attempt")

    @property
    def log(self) -> Any:
        """A logger for lines about the whole call; a line of `context.of(task).log` begins with the task."""
        return _log

    def progress(self, fraction: float, message: str = "") -> None:
        """Report the progress of all tasks of the call, as `Context.progress` does."""
        for one in self.contexts:
            one.progress(fraction, message)

    def submit(self, *_args: Any, **_options: Any) -> NoReturn:
        """Raise `Reject`: an object is submitted by one task."""
        raise Reject("context.submit: a call of a batch function has many tasks: write context.of(task).submit(...)")

    def send(self, *_args: Any, **_options: Any) -> NoReturn:
        """Raise `Reject`: a record is sent by one task."""
        raise Reject("context.send: a call of a batch function has many tasks: write context.of(task).send(...)")
