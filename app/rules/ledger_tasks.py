"""One event, applied to the row of its task: marks, sums and instants.

An event whose mark is already there changes nothing and counts nothing (`app.rules.ledger` says why).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.events import TaskCancelled, TaskDead, TaskFailed, TaskFinished, TaskRetried, TaskStarted
from app.rules.ledger_rows import (
    CANCELLED_MARK,
    DEAD_MARK,
    EVER_DEAD,
    EVER_ENDED,
    EVER_RESULT,
    FINISHED_MARK,
    GENERATION_BITS,
    RESULT_MARK,
    has_result_row,
)
from app.rules.results import MAX_ERROR_CHARS
from app.rules.tally import count_duration

if TYPE_CHECKING:
    from app.events import OneTaskEvent
    from app.rules.counts import Counts
    from app.rules.ledger_rows import TaskRow
    from app.rules.results import Results
    from app.rules.tally import Tally

_MARK_OF: dict[type, int] = {
    TaskFinished: FINISHED_MARK,
    TaskDead: DEAD_MARK,
    TaskCancelled: CANCELLED_MARK,
}


def mark_task(task: TaskRow, event: OneTaskEvent, kind: str, tally: Tally, results: Results | None) -> bool:
    """Set the event's mark, and count the event in the window of its time; returns False if the mark was there."""
    shift = 0 if event.redrive is msgspec.UNSET else event.redrive * GENERATION_BITS
    event_type = type(event)
    # `type` and not `isinstance`: half a microsecond for each event, in the loop where the system's time goes.
    if event_type is TaskStarted:
        return _mark_started(task, event, shift, kind, tally)  # type: ignore[arg-type]  # see above
    bit = _MARK_OF.get(event_type, 0) << shift
    if not bit:
        return _mark_failed(task, event, shift, kind, tally, results)  # type: ignore[arg-type]  # see above
    if task.marks & bit:
        return False
    _mark_end(task, event, bit, tally.at(event.at_ms, kind), results)  # type: ignore[arg-type]  # see above
    return True


def _mark_end(
    task: TaskRow, event: TaskFinished | TaskDead | TaskCancelled, bit: int, counts: Counts, results: Results | None
) -> None:
    # The instant of the end with precedence counts, not the latest instant: clocks differ, and a death may come late.
    if task.marks & EVER_ENDED < bit:
        task.ended_at_ms = event.at_ms
    if isinstance(event, TaskFinished):
        _keep_result(task, event, bit // FINISHED_MARK, results)
        spent_ms = event.spent_ms
        task.spent_ms += spent_ms
        counts.tasks_finished += 1
        counts.spent_ms += spent_ms
        if spent_ms > counts.spent_max_ms:
            counts.spent_max_ms = spent_ms
        count_duration(counts.spent_histogram, spent_ms)
    elif isinstance(event, TaskDead):
        counts.tasks_died += 1
        # The bits of a later generation's attempts are above those of this generation.
        shift = (bit.bit_length() - 1) // GENERATION_BITS * GENERATION_BITS
        if task.marks & EVER_DEAD < bit and not task.failed >> shift + GENERATION_BITS:
            _keep_error(task, event, results)
    else:
        counts.tasks_cancelled += 1
    task.marks |= bit


def _keep_result(task: TaskRow, event: TaskFinished, generation_bit: int, results: Results | None) -> None:
    result = bytes(event.result)
    if result == b"null":
        return
    bit = RESULT_MARK * generation_bit
    if results is not None and task.marks & EVER_RESULT < bit:
        results.of(event, has_row=has_result_row(task)).result = result
    task.marks |= bit


def _keep_error(task: TaskRow, event: TaskFailed | TaskDead, results: Results | None) -> None:
    if results is not None:
        # Cut here, so that any order of events gives the same row.
        results.of(event, has_row=has_result_row(task)).error = event.error[:MAX_ERROR_CHARS]


def _mark_started(task: TaskRow, event: TaskStarted, shift: int, kind: str, tally: Tally) -> bool:
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


def _mark_failed(  # noqa: PLR0917  # names would cost time in the loop where the system's time goes
    task: TaskRow, event: TaskFailed | TaskRetried, shift: int, kind: str, tally: Tally, results: Results | None
) -> bool:
    bit = 1 << (shift + event.attempt - 1)
    if isinstance(event, TaskFailed):
        if task.failed & bit:
            return False
        if bit > task.failed and not (task.marks & EVER_DEAD) >> shift:
            _keep_error(task, event, results)
        task.failed |= bit
        task.spent_ms += event.spent_ms
        counts = tally.at(event.at_ms, kind)
        counts.tasks_failed += 1
        counts.spent_ms += event.spent_ms
        return True
    if not isinstance(event, TaskRetried):
        raise TypeError(f"no mark is defined for {type(event).__name__}")
    if task.retried & bit:
        return False
    task.retried |= bit
    tally.at(event.at_ms, kind).tasks_retried += 1
    return True
