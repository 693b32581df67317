"""The states of tasks and objects, from the marks of a ledger row (`app.rules.ledger_rows`)."""

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
    JOINS,
    TOLD,
    all_tasks,
)

if TYPE_CHECKING:
    from app.rules.ledger_rows import ObjectRow, TaskRow


class ObjectState(StrEnum):
    """The state of an object, from the states of its tasks."""

    CREATED = "CREATED"
    DISTRIBUTED = "DISTRIBUTED"
    PROCESSING = "PROCESSING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class TaskState(StrEnum):
    """The state of a task."""

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
"""The states of an ended object. Only a redrive revives an object, and only a failed one."""


def state_number_of(task: TaskRow) -> int:
    """Return the state of a task in its latest generation, as an index of `TASK_STATES`."""
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
    """Return the state of a task in its latest generation."""
    return TASK_STATES[state_number_of(task)]


def state_of_object(row: ObjectRow) -> ObjectState:
    """Return where an object stands: it has ended when all of its tasks have, and its join if there is one."""
    if row.ended:
        return OBJECT_STATES[row.ended]
    states = {state_number_of(task) for task in all_tasks(row)}
    if max(states, default=UNKNOWN) <= QUEUED:
        return ObjectState.DISTRIBUTED if QUEUED in states else ObjectState.CREATED
    return ObjectState.PROCESSING


def has_all_results(row: ObjectRow) -> bool:
    """Return whether all tasks that an object was split into have finished."""
    return bool(row.facts & TOLD) and row.finished_count == row.task_count


def end_of_object(row: ObjectRow) -> int:
    """Return the number of the state in which an object has ended, 0 if it has not."""
    if not row.facts & TOLD:
        # An object whose split did not finish has no tasks, so the end of the split is the end of the object.
        return 0 if row.split is None else _END_OF.get(state_number_of(row.split), 0)
    if row.ended_count < row.task_count:
        return 0
    if row.finished_count < row.task_count:
        return _END_OF[min(map(state_number_of, row.tasks), key=_WORST_FIRST.index)]
    if not row.facts & JOINS:
        return FINISHED_OBJECT
    if row.join is None:
        return 0
    joined = state_number_of(row.join)
    return FINISHED_OBJECT if joined == FINISHED else _END_OF.get(joined, 0)


def ended_at_ms(row: ObjectRow) -> int | None:
    """Return when an object ended, which is when its last task did; None while it has not."""
    return max((task.ended_at_ms for task in all_tasks(row)), default=0) if row.ended else None


OBJECT_STATES = tuple(ObjectState)
FINISHED_OBJECT = OBJECT_STATES.index(ObjectState.FINISHED)
# By the state of a task that did not finish.
_END_OF = {DEAD: OBJECT_STATES.index(ObjectState.FAILED), CANCELLED: OBJECT_STATES.index(ObjectState.CANCELLED)}
_WORST_FIRST = (DEAD, CANCELLED, FINISHED)
