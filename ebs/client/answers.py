"""What the API answers, as structs. Fields that this version does not know are ignored.

Instants are UTC epoch milliseconds, None for what has not happened yet.
"""

from __future__ import annotations

from typing import Any

import msgspec

ENDED_STATES = frozenset({"FINISHED", "FAILED", "CANCELLED"})


class Submitted(msgspec.Struct, frozen=True):
    """Kafka has stored the object."""

    id: str


class CallbackStatus(msgspec.Struct, frozen=True):
    """The callback of an object's latest end: its state is waiting, delivered, retrying, dead or cancelled."""

    url: str
    state: str
    task_id: str = ""
    attempts: int = 0
    error: str | None = None


class ParentTask(msgspec.Struct, frozen=True):
    """The task of another object that submitted an object."""

    object_id: str
    task_id: str


class ObjectStatus(msgspec.Struct, frozen=True):
    """An object and the progress of its tasks. `result` is what its join returned.

    `state` is CREATED, DISTRIBUTED, PROCESSING, FINISHED, FAILED or CANCELLED. `name` and `content` are None once the
    retention of their topic has deleted them. `ended_at_ms` is None until the object has ended. `parent` is the task
    that submitted the object, None if a client did. `children_count` says how many objects its own tasks have submitted
    (1000 means 1000 or more).
    """

    id: str
    state: str
    kind: str
    name: str | None = None
    content: Any = None
    tasks_total: int = 0
    tasks_done: int = 0
    tasks_in_progress: int = 0
    tasks_dead: int = 0
    tasks_cancelled: int = 0
    time_spent_ms: int = 0
    created_at_ms: int | None = None
    distributed_at_ms: int | None = None
    finished_at_ms: int | None = None
    ended_at_ms: int | None = None
    callback: CallbackStatus | None = None
    parent: ParentTask | None = None
    children_count: int = 0
    result: Any = None

    @property
    def ended(self) -> bool:
        """Whether the object is FINISHED, FAILED or CANCELLED."""
        return self.state in ENDED_STATES


class TaskStatus(msgspec.Struct, frozen=True):
    """A task of an object.

    `state` is UNKNOWN, QUEUED, IN_PROGRESS, RETRYING, FINISHED, DEAD or CANCELLED. `result` is what its handler
    returned. `progress` (0 to 1), `message` and `worker` are set while it runs. `role` is `task`, or `split`, `join` or
    `callback` for the object's split, join and callbacks.
    """

    id: str
    sequence: int
    state: str
    attempts: int = 0
    result: Any = None
    error: str | None = None
    created_at_ms: int | None = None
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    wait_ms: int = 0
    spent_ms: int = 0
    progress: float | None = None
    message: str | None = None
    worker: str | None = None
    role: str = "task"


class ObjectEvent(msgspec.Struct, frozen=True):
    """Something that happened to an object, such as TASK_FINISHED. `data` has all fields of the record on the topic.

    `event_id` is its position: `events(..., after=event_id)` continues after it.
    """

    type: str
    event_id: str
    at_ms: int
    data: dict[str, Any]

    @property
    def task_id(self) -> str | None:
        """The task of the event, None if the event is about the object."""
        return self.data.get("task_id")


class Cancelled(msgspec.Struct, frozen=True):
    """Kafka has stored the cancel: waiting tasks never start, running ones are cancelled, finished ones stay.

    `seen` is true if the API's own view already contains the cancel.
    """

    id: str
    seen: bool = False


class RefusedObject(msgspec.Struct, frozen=True):
    """An object that was not accepted: its `index` among the objects given to `submit_many`, and the reason.

    With `id` it is safe to submit the object again; `id` may be empty if the object has an idempotency key.
    """

    index: int
    id: str
    status: int
    type: str = ""
    detail: str = ""
    errors: list[dict[str, str]] = []


class RefusedLetter(msgspec.Struct, frozen=True):
    """A dead letter that could not be redriven, and why."""

    id: str
    reason: str


class Redrive(msgspec.Struct, frozen=True):
    """The result of a redrive. `refused` are dead letters that could not be redriven, for example after 3 redrives."""

    id: str
    state: str
    redriven_count: int = 0
    refused_count: int = 0
    skipped_count: int = 0
    refused: tuple[RefusedLetter, ...] = ()
    error: str | None = None


class TasksOnPage(msgspec.Struct, frozen=True):
    """One page of tasks."""

    tasks: list[TaskStatus]
    next_cursor: str | None = None
