"""The rows of the object ledger, and the marks in them.

A row has at most 90 bytes for each task (nine numbers of 64 bits), so at most 0.9 MB for 10,000 tasks; its fields of
the object are bounded, too. A record of a changelog may have 2 MiB (`app.topics`). Results and errors are in another
table (`app.rules.results`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.events import CALLBACK_SEQUENCE, JOIN_SEQUENCE, MAX_TASKS, SPLIT_SEQUENCE, AboutObject

if TYPE_CHECKING:
    from collections.abc import Iterator

# In the order of precedence: if a task has two ends, the larger mark counts.
CREATED_MARK, DEAD_MARK, CANCELLED_MARK, FINISHED_MARK = 1, 2, 4, 8
RESULT_MARK = 16
"""Beside `FINISHED_MARK`: the task returned more than null."""
GENERATION_BITS = 16
GENERATION_MASK = (1 << GENERATION_BITS) - 1
ENDED_MARKS = FINISHED_MARK | DEAD_MARK | CANCELLED_MARK

MAX_ATTEMPTS = 16
MAX_REDRIVES = 3

EVER_ENDED = sum(ENDED_MARKS << generation * GENERATION_BITS for generation in range(MAX_REDRIVES + 1))
EVER_DEAD = sum(DEAD_MARK << generation * GENERATION_BITS for generation in range(MAX_REDRIVES + 1))
_REDRIVEN = sum(CREATED_MARK << generation * GENERATION_BITS for generation in range(1, MAX_REDRIVES + 1))
EVER_RESULT = sum(RESULT_MARK << generation * GENERATION_BITS for generation in range(MAX_REDRIVES + 1))


class TaskRow(msgspec.Struct, array_like=True, gc=False):
    """One task: its marks, then instants (epoch ms, 0 is not yet) and durations (ms)."""

    marks: int = 0
    started: int = 0
    failed: int = 0
    retried: int = 0
    created_at_ms: int = 0
    started_at_ms: int = 0
    ended_at_ms: int = 0
    wait_ms: int = 0
    spent_ms: int = 0


# What is known of an object as a whole.
COUNTED = 1
"""A task's event has said how many tasks there are; until then `task_count` is the requested number, if any."""
TOLD = 2
"""TASKS_CREATED of all tasks has come: the split has ended, if there is one, and it is known if there is a join."""
JOINS = 4
JOIN_ASKED = 8


class ObjectRow(msgspec.Struct, array_like=True, gc=False):
    """One object; `task_count` is 0 until an event says it, `created_at_ms` is 0 until OBJECT_CREATED comes.

    `ended` is the number of its state in `OBJECT_STATES` if it has ended, else 0. `callbacks` are by sequence: one for
    each end that was sent. Fields are only added at the end.
    """

    kind: str = ""
    task_count: int = 0
    created_at_ms: int = 0
    finished_at_ms: int = 0
    finished_count: int = 0
    tasks: list[TaskRow] = msgspec.field(default_factory=list)
    facts: int = 0
    ended_count: int = 0
    ended: int = 0
    split: TaskRow | None = None
    join: TaskRow | None = None
    about: AboutObject | None = None
    callbacks: dict[int, TaskRow] | None = None


def all_tasks(row: ObjectRow) -> Iterator[TaskRow]:
    """Return the tasks that an object consists of: split and join included, callbacks not."""
    yield from row.tasks
    if row.split is not None:
        yield row.split
    if row.join is not None:
        yield row.join


def sequences_of(row: ObjectRow) -> list[int]:
    """Return the sequences of all tasks of an object, those with a role last."""
    special = [(SPLIT_SEQUENCE, row.split), (JOIN_SEQUENCE, row.join)]
    known = [sequence for sequence, task in special if task is not None]
    return [*range(len(row.tasks)), *known, *sorted(row.callbacks or ())]


def tasks_and_callbacks(row: ObjectRow) -> Iterator[TaskRow]:
    """Return all tasks that are known under the object's id."""
    yield from all_tasks(row)
    yield from (row.callbacks or {}).values()


def known_task(row: ObjectRow, sequence: int) -> TaskRow:
    """Return an object's task that `sequences_of` names."""
    task = task_of(row, sequence)
    assert task is not None  # the caller has the sequence of the row
    return task


def task_of(row: ObjectRow, sequence: int) -> TaskRow | None:
    """Return an object's task, None if it has no event yet."""
    if sequence >= CALLBACK_SEQUENCE:
        return (row.callbacks or {}).get(sequence)
    if sequence >= MAX_TASKS:
        return row.split if sequence == SPLIT_SEQUENCE else row.join
    return row.tasks[sequence] if sequence < len(row.tasks) else None


def redrive_count_of(row: ObjectRow) -> int:
    """Return how many redrives of an object's tasks are known."""
    return sum((task.marks & _REDRIVEN).bit_count() for task in all_tasks(row))


def has_result_row(task: TaskRow) -> bool:
    """Return whether a task has a row of its own for its result or its error (`app.rules.results`)."""
    return bool(task.failed or task.marks & (EVER_RESULT | EVER_DEAD))


def has_result(task: TaskRow) -> bool:
    """Return whether a task has returned more than null."""
    return bool(task.marks & EVER_RESULT)


def mark_count_of(row: ObjectRow) -> int:
    """Return the number of marks of a row; the bit for a result, beside FINISHED, does not count."""
    return sum(
        (task.marks & ~EVER_RESULT).bit_count()
        + task.started.bit_count()
        + task.failed.bit_count()
        + task.retried.bit_count()
        for task in tasks_and_callbacks(row)
    )


encode_row = msgspec.msgpack.Encoder().encode
"""Pack an `ObjectRow` for a table."""
decode_row = msgspec.msgpack.Decoder(ObjectRow).decode
"""Undo `encode_row`."""
