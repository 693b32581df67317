"""The object ledger: one row an object, which says what happened to it and to each of its tasks.

A row is a join: it only ever learns. Each event has one mark (a bit); applying an event whose mark is already there
changes nothing, and everything else in the row is a sum over marks, a minimum or a maximum. So any order and any
repetition of the same events gives the same row, and each transition is told exactly once (`Tally` hears of it once).

An attempt is known by its generation (how often the task was redriven, 0 to 3) and its number in it (1 to 16): bit
`generation * 16 + attempt - 1` of `started` and `failed`; the facts about a whole generation are the bits of `marks`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from app.events import (
    TaskCancelled,
    TaskCreated,
    TaskDead,
    TaskEvent,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TaskStarted,
    task_id_of,
)
from app.rules.counts import WINDOW_MS, Counts
from app.rules.histogram import bucket_of

if TYPE_CHECKING:
    from app.events import ObjectCreated

MAX_ATTEMPTS = 16
MAX_REDRIVES = 3

# In the order in which one end outranks another, so that comparing marks tells which end counts.
_CREATED, _DEAD, _CANCELLED, _FINISHED = 1, 2, 4, 8
_GENERATION_BITS = 16
_GENERATION_MASK = (1 << _GENERATION_BITS) - 1
_ENDED = _FINISHED | _DEAD | _CANCELLED
_EVER_ENDED = sum(_ENDED << generation * _GENERATION_BITS for generation in range(MAX_REDRIVES + 1))
_EVER_DEAD = sum(_DEAD << generation * _GENERATION_BITS for generation in range(MAX_REDRIVES + 1))


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


class TaskRow(msgspec.Struct, array_like=True, gc=False):
    """One task: its marks, then instants (epoch ms, 0 is not yet), durations (ms), the JSON result, the last error."""

    marks: int = 0
    started: int = 0
    failed: int = 0
    retried: int = 0
    created_at_ms: int = 0
    started_at_ms: int = 0
    ended_at_ms: int = 0
    wait_ms: int = 0
    spent_ms: int = 0
    result: bytes = b""
    error: str = ""


class ObjectRow(msgspec.Struct, array_like=True, gc=False):
    """One object; `task_count` is 0 until an event told it, `created_at_ms` until OBJECT_CREATED came."""

    kind: str = ""
    task_count: int = 0
    created_at_ms: int = 0
    finished_at_ms: int = 0
    finished_count: int = 0
    tasks: list[TaskRow] = msgspec.field(default_factory=list)


encode_row = msgspec.msgpack.Encoder().encode
"""Pack an `ObjectRow` for a table."""
decode_row = msgspec.msgpack.Decoder(ObjectRow).decode
"""Undo `encode_row`."""


class Tally:
    """What one step adds to the windows: a `Counts` of changes for each window start and kind."""

    __slots__ = ("deltas",)

    def __init__(self) -> None:
        self.deltas: dict[tuple[int, str], Counts] = {}

    def at(self, at_ms: int, kind: str) -> Counts:
        """Return the changes of the window that an instant falls into."""
        key = (at_ms - at_ms % WINDOW_MS, kind)
        counts = self.deltas.get(key)
        if counts is None:
            counts = self.deltas[key] = Counts()
        return counts


def apply_object_created(row: ObjectRow, event: ObjectCreated, tally: Tally) -> bool:
    """Join OBJECT_CREATED into a row; returns whether it was news, and if so tells the tally."""
    if row.created_at_ms:
        return False
    # An event time of 0 is legal and must still leave its mark.
    row.created_at_ms = event.at_ms or 1
    row.kind = event.kind
    if event.task_count:
        row.task_count = event.task_count
    tally.at(event.at_ms, event.kind).objects_created += 1
    if row.finished_at_ms:
        _count_object_time(row, tally)
    return True


def apply_task_event(row: ObjectRow, event: TaskEvent, tally: Tally) -> bool:
    """Join a task's event into its object's row; returns whether it was news, and if so tells the tally."""
    tasks = row.tasks
    sequence = event.sequence
    if sequence >= len(tasks):
        tasks.extend(TaskRow() for _ in range(max(event.task_count, sequence + 1) - len(tasks)))
    if not row.task_count:
        row.task_count = event.task_count
        row.kind = event.kind
    task = tasks[sequence]
    before = state_of_task(task)
    counts = _learn(task, event, tally)
    if counts is None:
        return False
    after = state_of_task(task)
    if before is not after:
        _move(counts, before, after)
        if after is TaskState.FINISHED:
            row.finished_count += 1
            if row.finished_count == row.task_count:
                row.finished_at_ms = max(one.ended_at_ms for one in tasks) or 1
                tally.at(row.finished_at_ms, row.kind).objects_finished += 1
                if row.created_at_ms:
                    _count_object_time(row, tally)
    return True


def _learn(task: TaskRow, event: TaskEvent, tally: Tally) -> Counts | None:
    """Set the event's mark; returns the window that it counts in, or None if the mark was there."""
    shift = 0 if event.redrive is msgspec.UNSET else event.redrive * _GENERATION_BITS
    if isinstance(event, TaskStarted):
        return _learn_started(task, event, 1 << (shift + event.attempt - 1), tally)
    if isinstance(event, TaskFailed | TaskRetried):
        return _learn_failed(task, event, shift, tally)
    bit = _MARK_OF[type(event)] << shift
    if task.marks & bit:
        return None
    task.marks |= bit
    counts = tally.at(event.at_ms, event.kind)
    if isinstance(event, TaskCreated):
        # A redrive makes the task again, but it is no new one.
        counts.tasks_created += not shift
        if not task.created_at_ms or event.at_ms < task.created_at_ms:
            task.created_at_ms = event.at_ms
        return counts
    # The highest end tells when, not the latest instant: clocks differ, and a death heard of late is history.
    if task.marks & _EVER_ENDED < bit << 1:
        task.ended_at_ms = event.at_ms
    if isinstance(event, TaskFinished):
        _learn_finished(task, event, counts)
    elif isinstance(event, TaskDead):
        counts.tasks_died += 1
        if task.marks & _EVER_DEAD < bit << 1 and not task.failed >> shift + _GENERATION_BITS:
            task.error = event.error
    else:
        counts.tasks_cancelled += 1
    return counts


def _learn_finished(task: TaskRow, event: TaskFinished, counts: Counts) -> None:
    result = bytes(event.result)
    if result != b"null":
        task.result = result
    spent_ms = event.spent_ms
    task.spent_ms += spent_ms
    counts.tasks_finished += 1
    counts.spent_ms += spent_ms
    if spent_ms > counts.spent_max_ms:
        counts.spent_max_ms = spent_ms
    _count_duration(counts.spent_histogram, spent_ms)


def _learn_started(task: TaskRow, event: TaskStarted, bit: int, tally: Tally) -> Counts | None:
    if task.started & bit:
        return None
    task.started |= bit
    if event.at_ms > task.started_at_ms:
        task.started_at_ms = event.at_ms
    if event.wait_ms > task.wait_ms:
        task.wait_ms = event.wait_ms
    counts = tally.at(event.at_ms, event.kind)
    counts.tasks_started += 1
    counts.wait_ms += event.wait_ms
    if event.wait_ms > counts.wait_max_ms:
        counts.wait_max_ms = event.wait_ms
    _count_duration(counts.wait_histogram, event.wait_ms)
    return counts


def _learn_failed(task: TaskRow, event: TaskFailed | TaskRetried, shift: int, tally: Tally) -> Counts | None:
    bit = 1 << (shift + event.attempt - 1)
    if isinstance(event, TaskRetried):
        if task.retried & bit:
            return None
        task.retried |= bit
        counts = tally.at(event.at_ms, event.kind)
        counts.tasks_retried += 1
        return counts
    if task.failed & bit:
        return None
    if bit > task.failed and not (task.marks & _EVER_DEAD) >> shift:
        task.error = event.error
    task.failed |= bit
    task.spent_ms += event.spent_ms
    counts = tally.at(event.at_ms, event.kind)
    counts.tasks_failed += 1
    counts.spent_ms += event.spent_ms
    return counts


def state_of_task(task: TaskRow) -> TaskState:
    """Return where a task stands in its latest generation."""
    marks, started, failed = task.marks, task.started, task.failed
    top = marks | started | failed
    if top > _GENERATION_MASK:
        shift = (top.bit_length() - 1) // _GENERATION_BITS * _GENERATION_BITS
        marks, started, failed = marks >> shift, started >> shift, failed >> shift
    if marks & _ENDED:
        if marks & _FINISHED:
            return TaskState.FINISHED
        return TaskState.CANCELLED if marks & _CANCELLED else TaskState.DEAD
    if started > failed:
        return TaskState.IN_PROGRESS
    if failed:
        return TaskState.RETRYING
    return TaskState.QUEUED if marks & _CREATED else TaskState.UNKNOWN


def state_of_object(row: ObjectRow) -> ObjectState:
    """Return where an object stands: it has ended when all of its tasks have."""
    states = {state_of_task(task) for task in row.tasks}
    if row.task_count and len(row.tasks) >= row.task_count and states <= _ENDED_STATES:
        if TaskState.DEAD in states:
            return ObjectState.FAILED
        return ObjectState.CANCELLED if TaskState.CANCELLED in states else ObjectState.FINISHED
    if states <= _WAITING_STATES:
        return ObjectState.DISTRIBUTED if TaskState.QUEUED in states else ObjectState.CREATED
    return ObjectState.PROCESSING


def describe_object(object_id: str, row: ObjectRow) -> dict[str, Any]:
    """Return a row as people read it; instants are epoch ms, None where they have not come."""
    states = [state_of_task(task) for task in row.tasks]
    return {
        "id": object_id,
        "kind": row.kind,
        "state": state_of_object(row).value,
        "tasks_total": row.task_count,
        "tasks_done": states.count(TaskState.FINISHED),
        "tasks_in_progress": states.count(TaskState.IN_PROGRESS),
        "tasks_dead": states.count(TaskState.DEAD),
        "tasks_cancelled": states.count(TaskState.CANCELLED),
        "time_spent_ms": sum(task.spent_ms for task in row.tasks),
        "created_at_ms": row.created_at_ms or None,
        "distributed_at_ms": min((task.created_at_ms for task in row.tasks if task.created_at_ms), default=None),
        "finished_at_ms": row.finished_at_ms or None,
    }


def describe_task(object_id: str, row: ObjectRow, sequence: int) -> dict[str, Any]:
    """Return one task of a row as people read it; `result` is left as JSON bytes for the caller to embed."""
    task = row.tasks[sequence]
    state = state_of_task(task)
    return {
        "id": task_id_of(object_id, sequence),
        "sequence": sequence,
        "state": state.value,
        "attempts": task.started.bit_count(),
        "created_at_ms": task.created_at_ms or None,
        "started_at_ms": task.started_at_ms or None,
        # A redriven task had an end, and has none now.
        "ended_at_ms": task.ended_at_ms if state in _ENDED_STATES else None,
        "wait_ms": task.wait_ms,
        "spent_ms": task.spent_ms,
        "error": task.error or None,
    }


def _count_object_time(row: ObjectRow, tally: Tally) -> None:
    spent_ms = max(0, row.finished_at_ms - row.created_at_ms)
    counts = tally.at(row.finished_at_ms, row.kind)
    counts.object_ms += spent_ms
    counts.object_max_ms = max(counts.object_max_ms, spent_ms)
    _count_duration(counts.object_histogram, spent_ms)


def _count_duration(histogram: dict[int, int], duration_ms: int) -> None:
    bucket = bucket_of(duration_ms)
    histogram[bucket] = histogram.get(bucket, 0) + 1


def _move(counts: Counts, before: TaskState, after: TaskState) -> None:
    """Count a task out of one state and into another."""
    if before is not TaskState.UNKNOWN:
        name = _GAUGE_OF[before]
        setattr(counts, name, getattr(counts, name) - 1)
    name = _GAUGE_OF[after]
    setattr(counts, name, getattr(counts, name) + 1)


_MARK_OF = {TaskCreated: _CREATED, TaskFinished: _FINISHED, TaskDead: _DEAD, TaskCancelled: _CANCELLED}
_ENDED_STATES = {TaskState.FINISHED, TaskState.DEAD, TaskState.CANCELLED}
_WAITING_STATES = {TaskState.UNKNOWN, TaskState.QUEUED}
_GAUGE_OF = {
    TaskState.QUEUED: "queued_now",
    TaskState.IN_PROGRESS: "in_progress_now",
    TaskState.RETRYING: "retrying_now",
    TaskState.FINISHED: "finished_now",
    TaskState.DEAD: "dead_now",
    TaskState.CANCELLED: "cancelled_now",
}
