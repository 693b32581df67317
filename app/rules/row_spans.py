"""What a task's time went into, as far as its ledger row tells: without its events."""

from __future__ import annotations

import msgspec

from app.rules.ledger_states import TaskState
from app.rules.timeline import Span, What


class Wait(msgspec.Struct, frozen=True):
    """What a task waits for now, and until when; None: nobody knows."""

    reason: str
    due_at_ms: int | None = None


class TaskTimes(msgspec.Struct, frozen=True):
    """What a task's ledger row tells of its time, under the names of the API; `spent_ms` is of all its attempts.

    `wait_ms` is how long it had waited when it started, from the instant at which it was due; None: not told.
    """

    state: TaskState
    attempts: int = 0
    created_at_ms: int | None = None
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    spent_ms: int = 0
    wait_ms: int | None = None
    waiting: Wait | None = None


def spans_of(task: TaskTimes, now_ms: int) -> list[Span]:
    """Return the spans that a task's ledger row tells, up to its end or until now: without its events.

    They add up to what `timeline_of` makes of the events. Of one attempt they are the same spans. Of several attempts a
    row knows how long they worked, not when: their work stands at the end, all waits in front of it. Work that a cancel
    cut short counts as waiting there.
    """
    from_ms = task.created_at_ms
    if from_ms is None:
        return []
    end_ms = max(from_ms, now_ms if task.ended_at_ms is None else task.ended_at_ms)
    running = task.state is TaskState.IN_PROGRESS
    if not task.attempts or task.started_at_ms is None:
        cuts = [(What.DELAY, _delayed_to_ms(task, from_ms)), (What.QUEUE, end_ms)]
    elif task.attempts == 1:
        was_cut = task.state is TaskState.CANCELLED and not task.spent_ms
        to_its_end = running or was_cut or task.state in {TaskState.FINISHED, TaskState.DEAD}
        worked_until_ms = end_ms if to_its_end else task.started_at_ms + task.spent_ms
        rest = What.RETRY if task.state is TaskState.RETRYING else What.WAITS
        delay = (What.DELAY, _delayed_to_ms(task, from_ms))
        cuts = [delay, (What.QUEUE, task.started_at_ms), (What.WORK, worked_until_ms), (rest, end_ms)]
    else:
        work_ms = task.spent_ms + (max(0, end_ms - task.started_at_ms) if running else 0)
        cuts = [(What.WAITS, end_ms - work_ms), (What.WORK, end_ms)]
    spans = []
    for what, to_ms in cuts:
        # Clocks differ between workers.
        to_ms = min(max(from_ms, to_ms), end_ms)  # noqa: PLW2901
        if to_ms > from_ms:
            spans.append(Span(what, from_ms, to_ms))
        from_ms = to_ms
    return spans


def _delayed_to_ms(task: TaskTimes, from_ms: int) -> int:
    """Return until when a task was delayed; when it was created (`from_ms`) if it was not."""
    if task.started_at_ms is not None:
        return from_ms if task.wait_ms is None else task.started_at_ms - task.wait_ms
    waiting = task.waiting
    return waiting.due_at_ms or from_ms if waiting is not None and waiting.reason == "delay" else from_ms
