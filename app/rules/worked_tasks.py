"""Which requests for tasks have been worked, as their events tell: for a group whose committed offsets are gone.

The events of an attempt are committed together with the place of its request, so they tell the same, as long as they
are on their topic: for `EBS_RETENTION_DAYS`, as the requests are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.events import TaskCancelled, TaskDead, TaskFailed, TaskFinished, TaskRetried, TaskStarted, redrive_of

if TYPE_CHECKING:
    from app.events import OneTaskEvent, TaskCreated, TaskEvent

_ALL_ATTEMPTS = 1 << 30

EARLIEST = "earliest"
LATEST = "latest"
WORKED = "worked"
COMMITTED = "committed"
"""Where a role can be told to go on.

WORKED, for processing only: where the events of its tasks say. COMMITTED: where it is, though tables lost their rows.
"""


class WorkedTasks:
    """Knows by task and redrive which attempts began and ended, and which were requested again after waiting."""

    def __init__(self) -> None:
        self._ended: dict[str, int] = {}
        self._started: dict[str, int] = {}
        self._requested: dict[str, int] = {}

    def note(self, event: TaskEvent) -> None:
        """Take in an event, in any order."""
        if isinstance(event, TaskFinished | TaskDead | TaskCancelled):
            _raise_to(self._ended, event, _ALL_ATTEMPTS)
        elif isinstance(event, TaskFailed | TaskRetried):
            _raise_to(self._ended, event, event.attempt)
        elif isinstance(event, TaskStarted):
            _raise_to(self._started, event, event.attempt)

    def note_request(self, task: TaskCreated) -> None:
        """Take in a request on `task-requests`: its task does not wait for that attempt any more."""
        _raise_to(self._requested, task, task.attempt)

    def is_worked(self, task: TaskCreated, *, waits: bool) -> bool:
        """Return whether a request needs no work any more; `waits`: it lies on a retry topic of an earlier version."""
        key = _key_of(task)
        done = max(self._ended.get(key, 0), self._requested.get(key, 0) if waits else 0)
        return done >= task.attempt

    def has_started(self, task: TaskCreated) -> bool:
        """Return whether an attempt has said that it began."""
        return self._started.get(_key_of(task), 0) >= task.attempt


def _raise_to(known: dict[str, int], event: TaskCreated | OneTaskEvent, attempt: int) -> None:
    key = _key_of(event)
    known[key] = max(attempt, known.get(key, 0))


def _key_of(event: TaskCreated | OneTaskEvent) -> str:
    return f"{event.task_id}#{redrive_of(event)}"
