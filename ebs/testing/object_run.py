"""The result of an object that ran in this process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from ebs.client.answers import TaskStatus
from ebs.client.errors import failure_of
from ebs.testing.own_packages import own_packages


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, as the events and the dead letter have it; `exception` is what the function raised."""

    type: str
    message: str
    stack: str = field(repr=False)
    exception: BaseException = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


@dataclass(frozen=True)
class AttemptRun:
    """One attempt: its number from 1, and its start in virtual seconds since the object was created.

    `progress` is the last progress that the function reported (0.0 to 1.0, and a message). `error` is None if the
    function returned.
    """

    number: int
    started_s: float
    error: Failure | None = None
    progress: tuple[float, str] | None = None


@dataclass(frozen=True)
class TaskRun:
    """A task: its `role` is split, task or join; `sequence` counts the tasks from 0 and is None for split and join.

    `state` is FINISHED or DEAD. `content` and `result` are decoded JSON.
    """

    task_id: str
    role: str
    sequence: int | None
    name: str
    content: Any
    state: str
    result: Any
    attempts: list[AttemptRun]

    @property
    def error(self) -> Failure | None:
        """The error of the last attempt; None if the task finished."""
        return self.attempts[-1].error if self.attempts else None


@dataclass(frozen=True)
class ProducedObject:
    """An object that a function submitted with `context.submit`. It did not run.

    `tasks` is a number, or a list with the content of each task; None if the function left that open. `callback_url` is
    where its ends would be sent.
    """

    object_id: str
    kind: str
    name: str
    content: Any
    tasks: int | list[Any] | None
    callback_url: str | None = None


@dataclass(frozen=True)
class ProducedRecord:
    """A record that a function sent with `context.send`: the bytes that the topic would have."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    def json(self) -> Any:
        """Return the value, decoded from JSON."""
        return msgspec.json.decode(self.value or b"")


@dataclass(frozen=True)
class ObjectRun:
    """An object at its end: `state` is FINISHED or FAILED.

    `results` has the result of each task in order (None for a dead task), `result` is the result of the join.
    `submitted` and `sent` are what functions produced with `context.submit` and `context.send`, in order; failed
    attempts produce nothing. `end` is the record on `object-events`. `split` and `join` are None if the kind has none,
    or if it did not run.
    """

    object_id: str
    kind: str
    state: str
    result: Any
    results: list[Any]
    tasks: list[TaskRun]
    split: TaskRun | None
    join: TaskRun | None
    submitted: list[ProducedObject]
    sent: list[ProducedRecord]
    end: dict[str, Any]

    @property
    def all_tasks(self) -> list[TaskRun]:
        """All tasks in the order in which they run: the split, the tasks, the join."""
        first, last = [self.split] if self.split else [], [self.join] if self.join else []
        return [*first, *self.tasks, *last]

    @property
    def errors(self) -> list[Failure]:
        """The errors of all attempts, including those of tasks that finished after a retry."""
        return [attempt.error for task in self.all_tasks for attempt in task.attempts if attempt.error is not None]

    def raise_for_failure(self) -> ObjectRun:
        """Return this run; raises `ObjectFailed` if the object failed, as `Client.results` does.

        The cause of this error is the exception of the first dead task.
        """
        dead = [task for task in self.all_tasks if task.error is not None]
        if self.state == "FINISHED" or not dead or dead[0].error is None:
            return self
        raise failure_of(self.object_id, [_status_of(task) for task in dead]) from dead[0].error.exception


def _status_of(task: TaskRun) -> TaskStatus:
    said = None if task.error is None else str(task.error)
    attempts = len(task.attempts)
    return TaskStatus(task.task_id, _sequence_of(task), state=task.state, attempts=attempts, error=said, role=task.role)


def _sequence_of(task: TaskRun) -> int:
    with own_packages():
        from app.events import parse_task_id  # noqa: PLC0415  # whoever imports this file may have an `app`
    parsed = parse_task_id(task.task_id)
    assert parsed is not None  # the system makes these ids
    return parsed[1]
