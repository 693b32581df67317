"""The task, as a handler sees it."""

from __future__ import annotations

import msgspec

__all__ = ["Task"]


class Task(msgspec.Struct, frozen=True, gc=False):
    """What there is to do: `name` and `content` are those of its object.

    `task_id` is the same in every run. `sequence` counts the `task_count` tasks of an object from 0, `attempt` counts
    from 1. `at_ms` is when the task was made (UTC epoch milliseconds). `redrive` says how often the task was redriven,
    if it was.
    """

    id: str
    object_id: str
    task_id: str
    object_partition: int
    kind: str
    sequence: int
    task_count: int
    attempt: int
    at_ms: int
    name: str | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType = msgspec.UNSET
    redrive: int | msgspec.UnsetType = msgspec.UNSET
