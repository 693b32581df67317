"""Counting events as they come, each as often as it comes: what windows cost without the ledger (EBS_LEDGER=false).

States now follow from the events' usual order. Nothing here recognises a duplicate: for benchmarks only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.events import TaskCreated, TaskFinished, TaskStarted
from app.rules.histogram import bucket_of

if TYPE_CHECKING:
    from app.events import ObjectCreated, TaskEvent
    from app.rules.ledger import Tally


def count_object(event: ObjectCreated, tally: Tally) -> None:
    """Count OBJECT_CREATED."""
    tally.at(event.at_ms, event.kind).objects_created += 1


def count_task_event(event: TaskEvent, tally: Tally) -> None:
    """Count TASK_CREATED, TASK_STARTED or TASK_FINISHED; others are passed over."""
    counts = tally.at(event.at_ms, event.kind)
    if isinstance(event, TaskCreated):
        counts.tasks_created += 1
        counts.queued_now += 1
    elif isinstance(event, TaskStarted):
        counts.tasks_started += 1
        counts.queued_now -= 1
        counts.in_progress_now += 1
        counts.wait_ms += event.wait_ms
        bucket = bucket_of(event.wait_ms)
        counts.wait_histogram[bucket] = counts.wait_histogram.get(bucket, 0) + 1
    elif isinstance(event, TaskFinished):
        counts.tasks_finished += 1
        counts.in_progress_now -= 1
        counts.finished_now += 1
        counts.spent_ms += event.spent_ms
        bucket = bucket_of(event.spent_ms)
        counts.spent_histogram[bucket] = counts.spent_histogram.get(bucket, 0) + 1
