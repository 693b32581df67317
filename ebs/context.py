"""The context of an attempt: its time limit, whether it is cancelled, its progress, its log, its outputs."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ebs.errors import Reject
from ebs.outputs import CLOSED, OutputRules, Outputs, new_object, new_record
from ebs.task import Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

__all__ = ["Context"]

MAX_PROGRESS_CHARS = 200
"""Of a progress message; more is cut off. In a process it must fit into one atomic write to a pipe."""

_log = logging.getLogger("ebs.task")
_ANYTHING = OutputRules()
_gathering = threading.RLock()
"""A function may have threads of its own: two calls at once must not get one number, or two lists."""


class ReportedProgress(NamedTuple):
    """The last progress that a handler reported: 0.0 to 1.0, a message, and when (`time.monotonic()`)."""

    fraction: float
    message: str
    said_at_s: float


class TaskObject(NamedTuple):
    """An object as its split and its join see it; of a long name a join sees the first 500 characters."""

    id: str
    kind: str
    name: str


class TaskLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that begins each line with the task and its attempt, and sets `task_id` and `attempt` on the record."""

    def __init__(self, task: Task) -> None:
        super().__init__(_log, {"task_id": task.task_id, "attempt": task.attempt})
        self._prefix = f"task {task.task_id}, attempt {task.attempt}: "

    def log(self, level: int, msg: object, *args: Any, **options: Any) -> None:
        """Log a message."""
        # A percent sign of the task's id must not be taken for a place of one of the arguments.
        prefix = self._prefix.replace("%", "%%") if args else self._prefix
        options["stacklevel"] = options.get("stacklevel", 1) + 1
        super().log(level, f"{prefix}{msg}", *args, **options)

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """Add the task to the record, beside what the caller adds."""
        return msg, {**kwargs, "extra": {**(self.extra or {}), **(kwargs.get("extra") or {})}}


class Context(msgspec.Struct, eq=False):
    """One attempt of a task. Handlers can call every method in the event loop, in a thread and in a process.

    A msgspec struct because one is made for every task: 0.05 us instead of 0.19 us for a class with slots (2026-11).
    """

    task: Task
    time_limit_s: float
    began_at_s: float = 0.0
    """`time.monotonic()` at the start of the handler; 0: nobody has read `deadline` yet."""
    cancelled: bool = False
    """Whether to stop: the task is cancelled, over its time limit, or another worker has it now.

    Handlers that run in a thread should check it regularly. In a process it stays False: the process is killed instead.
    """
    last_progress: ReportedProgress | None = None
    outputs: Outputs | None = None
    """What the attempt has produced until now; None: nothing."""
    rules: OutputRules = _ANYTHING
    within: contextvars.Context | None = None
    """If the task is traced, the handler runs in this context, with its span as the current one; not in a process."""

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self.task.attempt

    @property
    def deadline(self) -> float:
        """When the time limit is reached, in seconds of `time.monotonic()`, which is the event loop's clock too."""
        if not self.began_at_s:
            self.began_at_s = time.monotonic()
        return self.began_at_s + self.time_limit_s

    @property
    def remaining_s(self) -> float:
        """The time left until the deadline, 0.0 if it has passed. Pass it to your clients as their timeout."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def log(self) -> TaskLog:
        """A logger that begins each line with the task and the attempt."""
        return TaskLog(self.task)

    def progress(self, fraction: float, message: str = "") -> None:
        """Report the progress, from 0 to 1 (other numbers become 0 or 1). The call is cheap: call it often.

        Only the last call counts.
        """
        # In this order NaN becomes 0: no wrong division in a progress bar shall fail a task. Converted here, because a
        # `Decimal` or a message that is no text would fail the heartbeats of the whole worker.
        share = float(min(max(0.0, fraction), 1.0))
        self.last_progress = ReportedProgress(share, str(message)[:MAX_PROGRESS_CHARS], time.monotonic())

    @property
    def object(self) -> TaskObject:
        """The object that the task belongs to: its `id`, `kind` and `name`, in a split or a join."""
        task = self.task
        return TaskObject(task.object_id, task.kind, "" if task.name is msgspec.UNSET else task.name)

    def submit(
        self,
        kind: str,
        content: Any = None,
        *,
        tasks: int | Sequence[Any] | None = None,
        name: str | None = None,
        id: str | None = None,  # noqa: A002  # as in the API
        callback_url: str | None = None,
        delay_s: float | None = None,
        due_at: datetime | None = None,
        key: str | None = None,
    ) -> str:
        """Submit a new object, and return its id. It exists only if this attempt finishes.

        `tasks` is a number, or a list with the content of each task, or an `Item`; None: the kind's split or the
        setting decides. The id is the same in every run of the task, by the number of the call; an `id` that exists
        already makes no second object. Each end of the object is sent to `callback_url`, whose host must be in
        EBS_WEBHOOK_HOSTS of the processing workers. Its tasks start `delay_s` seconds after this attempt has finished,
        or at `due_at`, a datetime with a time zone. `key` is whose work it is: `per_key` counts by it. Raises `Reject`
        for what cannot be submitted, and says what to change.
        """
        with _gathering:
            outputs = self._open_outputs("context.submit")
            new = new_object(
                self.task,
                outputs,
                kind=kind,
                content=content,
                tasks=tasks,
                name=name,
                object_id=id,
                callback_url=callback_url,
                delay_s=delay_s,
                due_at=due_at,
                key=key,
                rules=self.rules,
            )
            outputs.submit(new)
        return new.id

    def send(
        self,
        topic: str,
        key: str | bytes | None,
        value: Any,
        *,
        headers: Mapping[str, str | bytes] | Sequence[tuple[str, str | bytes]] | None = None,
    ) -> None:
        """Send a record to a topic that EBS_OUTPUT_TOPICS names. It exists only if this attempt finishes.

        `value` is bytes, text (written as UTF-8), or anything that becomes JSON; None is a tombstone. The key decides
        the partition, as in Java's clients. Raises `Reject` if the record cannot be sent; the message says what to
        change.
        """
        with _gathering:
            self._open_outputs("context.send").send(new_record(topic, key, value, headers, self.rules))

    def close_outputs(self) -> Outputs | None:
        """Return what the attempt has produced, now that it has returned; later calls are refused."""
        outputs, self.outputs = self.outputs, CLOSED
        return outputs

    def _open_outputs(self, call: str) -> Outputs:
        if self.cancelled:
            raise Reject(f"{call}: the attempt is cancelled or over its time limit, so this would have no effect")
        if self.outputs is None:
            self.outputs = Outputs()
        return self.outputs
