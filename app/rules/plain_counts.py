"""Counting events as they come, each as often as it comes: what windows cost without the ledger (EBS_LEDGER=false).

States now follow from the events' usual order. Nothing here recognises a duplicate: for benchmarks only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.events import ObjectCreated, TaskFinished, TasksCreated, TaskStarted
from app.rules.ledger_states import FINISHED, IN_PROGRESS, QUEUED, UNKNOWN
from app.rules.tally import count_duration

if TYPE_CHECKING:
    from app.events import TaskEvent
    from app.rules.tally import Tally


def count_event(event: ObjectCreated | TaskEvent, tally: Tally) -> None:
    """Count OBJECT_CREATED, TASKS_CREATED, TASK_STARTED or TASK_FINISHED; others are passed over."""
    counts = tally.at(event.at_ms, event.kind)
    if isinstance(event, TasksCreated):
        counts.tasks_created += event.count
        tally.move(event.kind, UNKNOWN, QUEUED, event.count)
    elif isinstance(event, TaskStarted):
        counts.tasks_started += 1
        tally.move(event.kind, QUEUED, IN_PROGRESS)
        counts.wait_ms += event.wait_ms
        count_duration(counts.wait_histogram, event.wait_ms)
    elif isinstance(event, TaskFinished):
        counts.tasks_finished += 1
        tally.move(event.kind, IN_PROGRESS, FINISHED)
        counts.spent_ms += event.spent_ms
        count_duration(counts.spent_histogram, event.spent_ms)
    elif isinstance(event, ObjectCreated):
        counts.objects_created += 1
