"""The attempts of one task, as its events tell: what each one did, why it failed, and when the next one was due.

Any order and any repetition of the same events gives the same attempts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from app.events import TaskCancelled, TaskFailed, TaskFinished, TaskRetried, TasksCreated, TaskStarted, redrive_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.events import OneTaskEvent, TaskDead, TaskEvent


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class AttemptRecord(msgspec.Struct):
    """One attempt: `number` counts from 1, and from 1 again after each redrive. Instants are epoch ms.

    None: it has not happened, or its event was deleted. `waited_ms` is the time in the queue since the attempt was due,
    `worked_ms` the time of the handler. `error` begins with its type; `stack_trace` has the last frames.
    """

    redrive: int
    number: int
    outcome: AttemptOutcome | None = None
    worker: str | None = None
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    waited_ms: int | None = None
    worked_ms: int | None = None
    error_type: str | None = None
    error: str | None = None
    stack_trace: str | None = None
    next_attempt_at_ms: int | None = None


def attempts_of(events: Iterable[TaskEvent]) -> list[AttemptRecord]:
    """Return the attempts that have begun, in their order, from the events of one task."""
    found: dict[tuple[int, int], AttemptRecord] = {}
    for event in events:
        if isinstance(event, TasksCreated):
            continue
        place = (redrive_of(event), event.attempt)
        attempt = found.get(place)
        if attempt is None:
            attempt = found[place] = AttemptRecord(*place)
        _learn(attempt, event)
    # A task that is cancelled while it waits has an event of an attempt that never began.
    return [one for _, one in sorted(found.items()) if one.worker is not None]


def _learn(attempt: AttemptRecord, event: OneTaskEvent) -> None:
    if isinstance(event, TaskStarted):
        attempt.started_at_ms = event.at_ms
        if attempt.worker is None:  # who ended it counts: the worker that began it may have died
            attempt.worker, attempt.waited_ms = event.worker, event.wait_ms
    elif isinstance(event, TaskCancelled):
        if attempt.outcome is not AttemptOutcome.FINISHED:
            attempt.outcome, attempt.ended_at_ms = AttemptOutcome.CANCELLED, event.at_ms
    else:
        attempt.worker, attempt.waited_ms = event.worker, event.wait_ms
        attempt.ended_at_ms, attempt.worked_ms = event.at_ms, event.spent_ms
        if isinstance(event, TaskFinished):
            attempt.outcome = AttemptOutcome.FINISHED
        else:
            _learn_failure(attempt, event)


def _learn_failure(attempt: AttemptRecord, event: TaskFailed | TaskRetried | TaskDead) -> None:
    attempt.outcome, attempt.error, attempt.error_type = AttemptOutcome.FAILED, event.error, event.error_type or None
    if isinstance(event, TaskFailed):
        attempt.stack_trace = event.stack_trace or None
    elif isinstance(event, TaskRetried) and event.due_at_ms is not msgspec.UNSET:
        attempt.next_attempt_at_ms = event.due_at_ms
