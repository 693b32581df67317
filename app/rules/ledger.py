"""The object ledger: one row for each object, with the events of the object and of each of its tasks.

A row only grows. Each event has one mark (a bit; TASKS_CREATED has one in each of its tasks). Applying an event whose
mark is already set changes nothing, and everything else in the row is a sum over marks, a minimum or a maximum. So any
order and any repetition of the same events gives the same row, and each transition is counted exactly once (by
`Tally`).

An attempt is known by its generation (how often the task was redriven, 0 to 3) and its number in it (1 to 16): bit
`generation * 16 + attempt - 1` of `started` and `failed`; the facts about a whole generation are the bits of `marks`.

Everything counts under the kind of the row, which is the kind of its first event. All events of generation 0 have the
same kind. Only a redrive may name another kind (it changes the handler, not the object), and a redrive is never the
first event: the topic has the death before the redrive. Only callbacks count under `CALLBACK_KIND`, because they are
not part of the object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.events import (
    CALLBACK_KIND,
    CALLBACK_SEQUENCE,
    MAX_TASKS,
    SPLIT_SEQUENCE,
    ObjectCreated,
    TaskEvent,
    TasksCreated,
    redrive_of,
)
from app.rules.ledger_rows import (
    COUNTED,
    CREATED_MARK,
    GENERATION_BITS,
    JOIN_ASKED,
    JOINS,
    TOLD,
    TaskRow,
    all_tasks,
    task_of,
)
from app.rules.ledger_states import (
    FINISHED,
    FINISHED_OBJECT,
    QUEUED,
    UNKNOWN,
    end_of_object,
    has_all_results,
    state_number_of,
)
from app.rules.ledger_tasks import mark_task
from app.rules.tally import count_duration

if TYPE_CHECKING:
    from app.rules.follow_ups import FollowUps
    from app.rules.ledger_rows import ObjectRow
    from app.rules.results import Results
    from app.rules.tally import Tally


def apply_object_created(
    row: ObjectRow, event: ObjectCreated, tally: Tally, _results: Results | None = None, _more: FollowUps | None = None
) -> int:
    """Apply OBJECT_CREATED to a row; returns 1 and tells the tally if the event is new; else 0.

    It takes the rest so that one loop can call it and `apply_task_event`.
    """
    if row.created_at_ms:
        return 0
    # An event time of 0 is legal and must still leave its mark.
    row.created_at_ms = event.at_ms or 1
    if not row.kind:
        row.kind = event.kind
    if not row.facts & COUNTED:
        row.task_count = event.asked_tasks or row.task_count
    tally.at(event.at_ms, row.kind).objects_created += 1
    if row.finished_at_ms:
        _count_object_time(row, tally)
    return 1


def apply_task_event(
    row: ObjectRow,
    event: TaskEvent,
    tally: Tally,
    results: Results | None = None,
    follow_ups: FollowUps | None = None,
) -> int:
    """Apply a task's event to its object's row; returns for how many tasks it is new, and tells the tally of these.

    The result or error goes into the task's row of `results` (None: they are not kept), if no later one is known.
    `follow_ups` collects what follows from the event (None: not needed).
    """
    if isinstance(event, TasksCreated):
        return _apply_tasks_created(row, event, tally, follow_ups)
    sequence = event.sequence
    task = _task_for(row, sequence, event.task_count)
    kind = row.kind if sequence < CALLBACK_SEQUENCE else CALLBACK_KIND
    if not kind:
        kind = row.kind = event.kind
    before = state_number_of(task)
    if not mark_task(task, event, kind, tally, results):
        return 0
    after = state_number_of(task)
    if before == after:
        return 1
    if task.marks & CREATED_MARK:
        tally.move(kind, before, after)
    if before >= FINISHED or after >= FINISHED:
        if sequence < MAX_TASKS:
            row.ended_count += (after >= FINISHED) - (before >= FINISHED)
            row.finished_count += after == FINISHED
        if sequence < CALLBACK_SEQUENCE:
            _follow_up(row, event.object_id, tally, follow_ups)
    return 1


def counted_kind(row: ObjectRow, event: ObjectCreated | TaskEvent) -> str:
    """Return the kind under which an event counts, once its row has learned of it."""
    if isinstance(event, ObjectCreated):
        return row.kind
    sequence = event.first if isinstance(event, TasksCreated) else event.sequence
    return row.kind if sequence < CALLBACK_SEQUENCE else CALLBACK_KIND


def _apply_tasks_created(row: ObjectRow, event: TasksCreated, tally: Tally, follow_ups: FollowUps | None) -> int:
    is_callback = event.first >= CALLBACK_SEQUENCE
    row.kind = row.kind if is_callback else row.kind or event.kind
    kind = CALLBACK_KIND if is_callback else row.kind
    redrive = redrive_of(event)
    row.about = row.about if event.about is msgspec.UNSET else event.about
    if event.first < MAX_TASKS:
        _count_tasks(row, event.task_count)
        tasks = row.tasks[event.first : event.first + event.count]
        told = 0 if redrive else TOLD | (JOINS if event.joins is True else 0)
    else:
        tasks = [_task_for(row, event.first, 0)]
        told = 0
    bit = CREATED_MARK << redrive * GENERATION_BITS
    news = [task for task in tasks if not task.marks & bit]
    queued_count = 0
    for task in news:
        # Before its first creation was heard of, a task was counted in no state.
        before = state_number_of(task)
        known = task.marks & CREATED_MARK
        task.marks |= bit
        # A redrive makes the task again, but it is no new one.
        if not task.created_at_ms or event.at_ms < task.created_at_ms:
            task.created_at_ms = event.at_ms
        after = state_number_of(task)
        if not known and after == QUEUED and not redrive:
            queued_count += 1
        elif task.marks & CREATED_MARK:
            tally.move(kind, before if known else UNKNOWN, after)
        if before >= FINISHED > after and event.first < MAX_TASKS:
            row.ended_count -= 1
    if queued_count:
        tally.move(kind, UNKNOWN, QUEUED, queued_count)
    if news and not redrive:
        tally.at(event.at_ms, kind).tasks_created += len(news)
    if not is_callback and (redrive or row.facts | told != row.facts):
        row.facts |= told
        _follow_up(row, event.object_id, tally, follow_ups)
    return len(news)


def _task_for(row: ObjectRow, sequence: int, task_count: int) -> TaskRow:
    """Return an object's task; make it if it is new. `task_count` is the number in its event."""
    if sequence < MAX_TASKS:
        if not row.facts & COUNTED:
            _count_tasks(row, task_count)
        if sequence >= len(row.tasks):
            _make_room(row, sequence + 1)
        return row.tasks[sequence]
    task = task_of(row, sequence)
    if task is None:
        task = TaskRow()
        if sequence >= CALLBACK_SEQUENCE:
            # In order of sequence, so that any order of events gives the same bytes.
            row.callbacks = dict(sorted({**(row.callbacks or {}), sequence: task}.items()))
        elif sequence == SPLIT_SEQUENCE:
            row.split = task
        else:
            row.join = task
    return task


def _count_tasks(row: ObjectRow, task_count: int) -> None:
    if not row.facts & COUNTED:
        row.facts |= COUNTED
        row.task_count = task_count
    _make_room(row, task_count)


def _make_room(row: ObjectRow, task_count: int) -> None:
    row.tasks.extend(TaskRow() for _ in range(task_count - len(row.tasks)))


def _follow_up(row: ObjectRow, object_id: str, tally: Tally, follow_ups: FollowUps | None) -> None:
    """Check whether the object ends or is revived with this event, and collect what follows."""
    ended_before, row.ended = row.ended, end_of_object(row)
    if row.ended == FINISHED_OBJECT and not row.finished_at_ms:
        _finish(row, tally)
    if row.ended and not ended_before and follow_ups is not None:
        follow_ups.ended(object_id, row)
    if row.facts & JOINS and not row.facts & JOIN_ASKED and has_all_results(row):
        row.facts |= JOIN_ASKED
        if row.join is None and follow_ups is not None:
            follow_ups.has_all_results(object_id, row)


def _finish(row: ObjectRow, tally: Tally) -> None:
    row.finished_at_ms = max((one.ended_at_ms for one in all_tasks(row)), default=0) or 1
    tally.at(row.finished_at_ms, row.kind).objects_finished += 1
    if row.created_at_ms:
        _count_object_time(row, tally)


def _count_object_time(row: ObjectRow, tally: Tally) -> None:
    spent_ms = max(0, row.finished_at_ms - row.created_at_ms)
    counts = tally.at(row.finished_at_ms, row.kind)
    counts.object_ms += spent_ms
    counts.object_max_ms = max(counts.object_max_ms, spent_ms)
    count_duration(counts.object_histogram, spent_ms)
