"""The common fields of a task's events, and the event of a task that is cancelled before any attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from app.events import TaskCancelled, encode
from app.rules.outgoing import Outgoing

if TYPE_CHECKING:
    from app.events import TaskCreated


def task_identity_of(task: TaskCreated) -> str:
    """Return what tells a task's generation apart in event ids: a redriven task is a new one."""
    return task.task_id if task.redrive is UNSET else f"{task.task_id}-r{task.redrive}"


def common_of(task: TaskCreated) -> tuple[str, str, int, str, int, int, int]:
    """Return the fields between the id and the time of every event of a task."""
    return (
        task.object_id,
        task.task_id,
        task.object_partition,
        task.kind,
        task.sequence,
        task.task_count,
        task.attempt,
    )


def cancelled(task: TaskCreated, at_ms: int, topic: str) -> Outgoing:
    """Return the TASK_CANCELLED of a task for `topic` (task events), whether it waits or runs."""
    event = TaskCancelled(f"n-{task_identity_of(task)}", *common_of(task), at_ms, task.redrive, task.role)
    return Outgoing(topic, task.object_partition, task.object_id.encode(), encode(event))
