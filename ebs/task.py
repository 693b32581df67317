"""The task, as a handler sees it."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Task"]


class Task(msgspec.Struct, frozen=True, gc=False):
    """What there is to do: `content` is any JSON value, decoded (a text is a `str`); `name` says whose it is.

    Both are those of the task's item; of its object, if that was submitted without items.
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
    content: Any = None
    redrive: int | msgspec.UnsetType = msgspec.UNSET
