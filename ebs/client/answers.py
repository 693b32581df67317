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
    retention of their topic has deleted them. `parent` is the task that submitted it, None for an object of a client;
    `children_count` says how many objects its own tasks have submitted (1000: that many or more).
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
    returned. `progress` (0 to 1), `message` and `worker` are set while it runs. `role` is `task` for what the object
    was split into, else `split`, `join` or `callback`.
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

    `event_id` is where it lies: `events(..., after=event_id)` continues behind it.
    """

    type: str
    event_id: str
    at_ms: int
    data: dict[str, Any]

    @property
    def task_id(self) -> str | None:
        """The task that it is about, None if it is about the object."""
        return self.data.get("task_id")


class Cancelled(msgspec.Struct, frozen=True):
    """Kafka has stored the cancel: waiting tasks never start, running ones are cancelled, finished ones stay.

    `seen` is whether the API's own view has it already.
    """

    id: str
    seen: bool = False


class RefusedObject(msgspec.Struct, frozen=True):
    """An object that was not accepted: its `index` in what was given to `submit_many`, and why.

    `id` is the id under which it is safe to submit it again; it may be empty if the object has an idempotency key.
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
    """What a redrive did. `refused` are dead letters that could not be redriven, such as after three redrives."""

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
