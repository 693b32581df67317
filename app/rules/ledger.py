"""The object ledger: one row an object, which says what happened to it and to each of its tasks.

A row is a join: it only ever learns. Each event has one mark (a bit; TASKS_CREATED has one in each of its tasks).
Applying an event whose mark is already there changes nothing, and everything else in the row is a sum over marks, a
minimum or a maximum. So any order and any repetition of the same events gives the same row, and each transition is told
exactly once (`Tally` hears of it once).

An attempt is known by its generation (how often the task was redriven, 0 to 3) and its number in it (1 to 16): bit
`generation * 16 + attempt - 1` of `started` and `failed`; the facts about a whole generation are the bits of `marks`.

Everything counts under the row's kind, that of the first event. All events of generation 0 carry the same kind; only a
redrive may name another (which changes the handler, not what the object is), and it is never the first: the topic has
the death before the redrive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.events import (
    MAX_TASKS,
    SPLIT_SEQUENCE,
    TaskCancelled,
    TaskDead,
    TaskEvent,
    TaskFailed,
    TaskFinished,
    TasksCreated,
    TaskStarted,
    redrive_of,
)
from app.rules.ledger_rows import (
    CANCELLED_MARK,
    COUNTED,
    CREATED_MARK,
    DEAD_MARK,
    EVER_DEAD,
    EVER_ENDED,
    EVER_RESULT,
    FINISHED_MARK,
    GENERATION_BITS,
    JOIN_ASKED,
    JOINS,
    RESULT_MARK,
    TOLD,
    TaskRow,
    all_tasks,
    has_result_row,
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
from app.rules.results import MAX_ERROR_CHARS
from app.rules.tally import count_duration

if TYPE_CHECKING:
    from app.events import ObjectCreated, OneTaskEvent, TaskRetried
    from app.rules.counts import Counts
    from app.rules.follow_ups import FollowUps
    from app.rules.ledger_rows import ObjectRow
    from app.rules.results import Results
    from app.rules.tally import Tally


def apply_object_created(
    row: ObjectRow, event: ObjectCreated, tally: Tally, _results: Results | None = None, _more: FollowUps | None = None
) -> int:
    """Join OBJECT_CREATED into a row; returns 1 if it was news, and tells the tally; else 0.

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
    """Join a task's event into its object's row; returns to how many tasks it was news, and if so tells the tally.

    Its result or error goes into the task's row of `results` (None: nobody keeps them), if no later one is known.
    `follow_ups` hears what the event makes due (None: nobody follows).
    """
    if isinstance(event, TasksCreated):
        return _apply_tasks_created(row, event, tally, follow_ups)
    sequence = event.sequence
    task = _task_for(row, sequence, event.task_count)
    kind = row.kind
    if not kind:
        kind = row.kind = event.kind
    before = state_number_of(task)
    if not _learn(task, event, kind, tally, results):
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
        _follow_up(row, event.object_id, tally, follow_ups)
    return 1


def _apply_tasks_created(row: ObjectRow, event: TasksCreated, tally: Tally, follow_ups: FollowUps | None) -> int:
    kind = row.kind = row.kind or event.kind
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
    if redrive or row.facts | told != row.facts:
        row.facts |= told
        _follow_up(row, event.object_id, tally, follow_ups)
    return len(news)


def _task_for(row: ObjectRow, sequence: int, task_count: int) -> TaskRow:
    """Return an object's task, which is made if nobody has heard of it; `task_count` is what its event says."""
    if sequence < MAX_TASKS:
        if not row.facts & COUNTED:
            _count_tasks(row, task_count)
        if sequence >= len(row.tasks):
            _make_room(row, sequence + 1)
        return row.tasks[sequence]
    task = task_of(row, sequence)
    if task is None:
        task = TaskRow()
        if sequence == SPLIT_SEQUENCE:
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
    """See whether an object ends or goes on with this event, and tell what is due."""
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


def _learn(task: TaskRow, event: OneTaskEvent, kind: str, tally: Tally, results: Results | None) -> bool:
    """Set the event's mark and count it in the window of its time; returns False if the mark was there."""
    shift = 0 if event.redrive is msgspec.UNSET else event.redrive * GENERATION_BITS
    event_type = type(event)
    # `type` and not `isinstance`: half a microsecond for each event, in the loop where the system's time goes.
    if event_type is TaskStarted:
        return _learn_started(task, event, shift, kind, tally)  # type: ignore[arg-type]  # see above
    bit = _MARK_OF.get(event_type, 0) << shift
    if not bit:
        return _learn_failed(task, event, shift, kind, tally, results)  # type: ignore[arg-type]  # see above
    if task.marks & bit:
        return False
    _learn_end(task, event, bit, tally.at(event.at_ms, kind), results)  # type: ignore[arg-type]  # see above
    return True


def _learn_end(
    task: TaskRow, event: TaskFinished | TaskDead | TaskCancelled, bit: int, counts: Counts, results: Results | None
) -> None:
    # The highest end tells when, not the latest instant: clocks differ, and a death heard of late is history.
    if task.marks & EVER_ENDED < bit:
        task.ended_at_ms = event.at_ms
    if isinstance(event, TaskFinished):
        _learn_result(task, event, bit // FINISHED_MARK, results)
        spent_ms = event.spent_ms
        task.spent_ms += spent_ms
        counts.tasks_finished += 1
        counts.spent_ms += spent_ms
        if spent_ms > counts.spent_max_ms:
            counts.spent_max_ms = spent_ms
        count_duration(counts.spent_histogram, spent_ms)
    elif isinstance(event, TaskDead):
        counts.tasks_died += 1
        # Bits of a later generation's attempts lie above those of this one.
        shift = (bit.bit_length() - 1) // GENERATION_BITS * GENERATION_BITS
        if task.marks & EVER_DEAD < bit and not task.failed >> shift + GENERATION_BITS:
            _learn_error(task, event, results)
    else:
        counts.tasks_cancelled += 1
    task.marks |= bit


def _learn_result(task: TaskRow, event: TaskFinished, generation_bit: int, results: Results | None) -> None:
    result = bytes(event.result)
    if result == b"null":
        return
    bit = RESULT_MARK * generation_bit
    if results is not None and task.marks & EVER_RESULT < bit:
        results.of(event, has_row=has_result_row(task)).result = result
    task.marks |= bit


def _learn_error(task: TaskRow, event: TaskFailed | TaskDead, results: Results | None) -> None:
    if results is not None:
        # Cut here, so that any order of events gives the same row.
        results.of(event, has_row=has_result_row(task)).error = event.error[:MAX_ERROR_CHARS]


def _learn_started(task: TaskRow, event: TaskStarted, shift: int, kind: str, tally: Tally) -> bool:
    bit = 1 << (shift + event.attempt - 1)
    if task.started & bit:
        return False
    task.started |= bit
    wait_ms = event.wait_ms
    if event.at_ms > task.started_at_ms:
        task.started_at_ms = event.at_ms
    if wait_ms > task.wait_ms:
        task.wait_ms = wait_ms
    counts = tally.at(event.at_ms, kind)
    counts.tasks_started += 1
    counts.wait_ms += wait_ms
    if wait_ms > counts.wait_max_ms:
        counts.wait_max_ms = wait_ms
    count_duration(counts.wait_histogram, wait_ms)
    return True


def _learn_failed(  # noqa: PLR0917  # names would cost time in the loop where the system's time goes
    task: TaskRow, event: TaskFailed | TaskRetried, shift: int, kind: str, tally: Tally, results: Results | None
) -> bool:
    bit = 1 << (shift + event.attempt - 1)
    if isinstance(event, TaskFailed):
        if task.failed & bit:
            return False
        if bit > task.failed and not (task.marks & EVER_DEAD) >> shift:
            _learn_error(task, event, results)
        task.failed |= bit
        task.spent_ms += event.spent_ms
        counts = tally.at(event.at_ms, kind)
        counts.tasks_failed += 1
        counts.spent_ms += event.spent_ms
        return True
    if task.retried & bit:
        return False
    task.retried |= bit
    tally.at(event.at_ms, kind).tasks_retried += 1
    return True


def _count_object_time(row: ObjectRow, tally: Tally) -> None:
    spent_ms = max(0, row.finished_at_ms - row.created_at_ms)
    counts = tally.at(row.finished_at_ms, row.kind)
    counts.object_ms += spent_ms
    counts.object_max_ms = max(counts.object_max_ms, spent_ms)
    count_duration(counts.object_histogram, spent_ms)


_MARK_OF: dict[type, int] = {
    TaskFinished: FINISHED_MARK,
    TaskDead: DEAD_MARK,
    TaskCancelled: CANCELLED_MARK,
}
