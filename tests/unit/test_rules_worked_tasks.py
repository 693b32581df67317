"""Which requests the events of tasks tell to be worked."""

from __future__ import annotations

import pytest
from histories import BASE_MS, task_event

from app.events import (
    TaskCancelled,
    TaskCreated,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TaskStarted,
)
from app.rules.worked_tasks import WorkedTasks


def request(attempt: int = 1, redrive: int = 0):
    """Return a request for the first task of an object."""
    return task_event(TaskCreated, "a", 0, at_ms=BASE_MS, attempt=attempt, redrive=redrive)


@pytest.mark.parametrize("end", [TaskFinished, TaskDead, TaskCancelled])
def test_ended_task_needs_no_attempt_any_more(end):
    """Of that generation: a redrive is a task of its own."""
    worked = WorkedTasks()
    worked.note(task_event(end, "a", 0, at_ms=BASE_MS, attempt=2))
    told = [worked.is_worked(request(attempt), waits=waits) for attempt in (1, 2, 3) for waits in (False, True)]
    assert [True] * 6 == told
    assert not worked.is_worked(request(1, redrive=1), waits=False)


@pytest.mark.parametrize("failure", [TaskFailed, TaskRetried])
def test_failed_attempt_is_worked_and_the_next_one_is_not(failure):
    """It waits on a tier, until it is requested again."""
    worked = WorkedTasks()
    worked.note(task_event(failure, "a", 0, at_ms=BASE_MS, attempt=1))
    assert [True, False] == [worked.is_worked(request(attempt), waits=False) for attempt in (1, 2)]
    assert not worked.is_worked(request(2), waits=True)
    worked.note_request(request(2))
    assert [True, False] == [worked.is_worked(request(2), waits=waits) for waits in (True, False)]


def test_attempt_that_began_says_so_once():
    """It runs again, and its next life does not tell of its beginning."""
    worked = WorkedTasks()
    worked.note(task_event(TaskStarted, "a", 0, at_ms=BASE_MS, attempt=1))
    assert not worked.is_worked(request(1), waits=False)
    assert [True, False] == [worked.has_started(request(attempt)) for attempt in (1, 2)]
