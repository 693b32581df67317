"""Where tasks and objects stand, seen from the marks of a ledger row (`app.rules.ledger_rows`)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from app.rules.ledger_rows import (
    CANCELLED_MARK,
    CREATED_MARK,
    ENDED_MARKS,
    FINISHED_MARK,
    GENERATION_BITS,
    GENERATION_MASK,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.rules.ledger_rows import ObjectRow, TaskRow


if TYPE_CHECKING:
    from app.rules.ledger_rows import ObjectRow, TaskRow


class ObjectState(StrEnum):
    """Where an object stands, seen over all of its tasks."""

    CREATED = "CREATED"
    DISTRIBUTED = "DISTRIBUTED"
    PROCESSING = "PROCESSING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class TaskState(StrEnum):
    """Where one task stands."""

    UNKNOWN = "UNKNOWN"
    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    RETRYING = "RETRYING"
    FINISHED = "FINISHED"
    DEAD = "DEAD"
    CANCELLED = "CANCELLED"


# States as numbers, for the inner loop: an enum's member hashes in Python, a list is indexed in C.
TASK_STATES = tuple(TaskState)
UNKNOWN, QUEUED, IN_PROGRESS, RETRYING, FINISHED, DEAD, CANCELLED = range(len(TASK_STATES))
ENDED_STATES = frozenset({TaskState.FINISHED, TaskState.DEAD, TaskState.CANCELLED})
"""Where a task has ended."""
ENDED_OBJECT_STATES = frozenset({ObjectState.FINISHED, ObjectState.FAILED, ObjectState.CANCELLED})
"""Where an object has ended; only a redrive revives one, and only one that failed."""


def state_number_of(task: TaskRow) -> int:
    """Return where a task stands in its latest generation, as an index of `TASK_STATES`."""
    marks, started, failed = task.marks, task.started, task.failed
    top = marks | started | failed
    if top > GENERATION_MASK:
        shift = (top.bit_length() - 1) // GENERATION_BITS * GENERATION_BITS
        marks, started, failed = marks >> shift, started >> shift, failed >> shift
    if marks & ENDED_MARKS:
        if marks & FINISHED_MARK:
            return FINISHED
        return CANCELLED if marks & CANCELLED_MARK else DEAD
    if started > failed:
        return IN_PROGRESS
    if failed:
        return RETRYING
    return QUEUED if marks & CREATED_MARK else UNKNOWN


def state_of_task(task: TaskRow) -> TaskState:
    """Return where a task stands in its latest generation."""
    return TASK_STATES[state_number_of(task)]


def state_of_object(row: ObjectRow) -> ObjectState:
    """Return where an object stands: it has ended when all of its tasks have."""
    states = {state_number_of(task) for task in row.tasks}
    if _has_ended(row, states):
        if DEAD in states:
            return ObjectState.FAILED
        return ObjectState.CANCELLED if CANCELLED in states else ObjectState.FINISHED
    if max(states, default=UNKNOWN) <= QUEUED:
        return ObjectState.DISTRIBUTED if QUEUED in states else ObjectState.CREATED
    return ObjectState.PROCESSING


def ended_at_ms(row: ObjectRow) -> int | None:
    """Return when the last task of an object ended (epoch ms), None while one has not."""
    if not _has_ended(row, map(state_number_of, row.tasks)):
        return None
    return max(task.ended_at_ms for task in row.tasks)


def _has_ended(row: ObjectRow, states: Iterable[int]) -> bool:
    return 0 < row.task_count <= len(row.tasks) and min(states) >= FINISHED
