"""What an object's time went into: its events turned into spans, task by task, without gaps.

A task is delayed, waits in the queue, is worked on, waits for its next attempt, or lies dead until somebody redrives
it; each span ends where the next one begins. TASK_STARTED tells until when a task waited for its time: `starts_at_ms`
is when a delayed task could start, and `wait_ms` counts from the instant at which an attempt was due. While a task
waits, the table `waiting` tells (`with_wait`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from app.events import CALLBACK_SEQUENCE, SPLIT_SEQUENCE, role_of, task_id_of

if TYPE_CHECKING:
    from collections.abc import Iterable


class What(StrEnum):
    """What a span is spent on."""

    DELAY = "delay"
    QUEUE = "queue wait"
    WORK = "work"
    RETRY = "retry wait"
    DEAD = "dead"
    WAITS = "queue and retry wait"
    """Where only a ledger row is known (`row_spans`), which does not tell the waits of several attempts apart."""


class Event(msgspec.Struct, frozen=True):
    """What a timeline needs of OBJECT_CREATED and of the tasks' events."""

    type: str
    id: str
    object_id: str
    at_ms: int
    task_id: str = ""
    sequence: int = 0
    first: int = 0
    count: int = 0
    attempt: int = 1
    redrive: int = 0
    worker: str = ""
    wait_ms: int = 0
    spent_ms: int = 0
    starts_at_ms: int = 0
    error: str = ""


class Span(msgspec.Struct):
    """From an instant to another (epoch ms; None: it goes on); `outcome` is the event that ended it.

    `spent_ms` is what the handler took, None if it was cancelled. A span of work that is much longer was begun again:
    its worker died.
    `due_at_ms` and `waits_for` tell of a wait that goes on until when it goes on, and what for.
    """

    what: What
    from_ms: int
    to_ms: int | None = None
    attempt: int = 1
    redrive: int = 0
    worker: str = ""
    spent_ms: int | None = None
    outcome: str = ""
    error: str = ""
    due_at_ms: int | None = None
    waits_for: str = ""

    def lasted_ms(self, now_ms: int) -> int:
        """Return how long it lasted, up to now if it goes on. Clocks differ between workers, so never below 0."""
        return max(0, (now_ms if self.to_ms is None else self.to_ms) - self.from_ms)


class TaskTimeline(msgspec.Struct):
    """One task: what happened last (an event's type), and its spans."""

    task_id: str
    sequence: int
    last: str
    spans: list[Span] = []

    @property
    def name(self) -> str:
        """What people call the task."""
        return name_of(self.sequence)

    def total_ms(self, what: What, now_ms: int) -> int:
        """Return what all spans of a sort took."""
        return sum(span.lasted_ms(now_ms) for span in self.spans if span.what is what)


class Timeline(msgspec.Struct):
    """An object: when it was created (None: nobody knows any more), when its last event was, and its tasks.

    The tasks are in the order in which they are worked (`order_of`). Callbacks are among them, but what happens to them
    is no event of the object's own.
    """

    created_at_ms: int | None
    last_at_ms: int | None
    tasks: list[TaskTimeline]

    @property
    def split_into(self) -> int:
        """How many tasks the object was split into: those with a role do not count."""
        return sum(not role_of(task.sequence) for task in self.tasks)

    @property
    def distribution_ms(self) -> int | None:
        """What passed until its first task was there."""
        first = min((task.spans[0].from_ms for task in self.tasks if task.spans), default=None)
        if first is None or self.created_at_ms is None:
            return None
        return max(0, first - self.created_at_ms)


def name_of(sequence: int) -> str:
    """Return what people call a task of an object: its number, or its role, such as `split`."""
    return task_id_of("", sequence).removeprefix("-")


def order_of(sequence: int) -> int:
    """Return a key that sorts the tasks of an object as they are worked: the split, its tasks, the join."""
    return -1 if sequence == SPLIT_SEQUENCE else sequence


_ENDS_OF_WORK = {"TASK_FINISHED", "TASK_FAILED", "TASK_CANCELLED"}
_NEXT_AFTER = {"TASK_RETRIED": What.RETRY, "TASK_DEAD": What.DEAD}


def timeline_of(events: Iterable[Event]) -> Timeline:
    """Return the timeline of one object's events, in the order of their topic."""
    created_at_ms: int | None = None
    last_at_ms: int | None = None
    tasks: dict[str, TaskTimeline] = {}
    seen: set[str] = set()
    for event in events:
        if event.id in seen:
            continue  # a duplicate, which counts nowhere else either
        seen.add(event.id)
        if event.sequence < CALLBACK_SEQUENCE > event.first:
            last_at_ms = max(last_at_ms or event.at_ms, event.at_ms)
        if event.type == "OBJECT_CREATED":
            created_at_ms = event.at_ms
            continue
        for task_id, sequence in _tasks_of(event):
            task = tasks.get(task_id)
            if task is None:
                task = tasks[task_id] = TaskTimeline(task_id, sequence, event.type)
            task.last = event.type
            _add(task.spans, event)
    return Timeline(created_at_ms, last_at_ms, sorted(tasks.values(), key=lambda task: order_of(task.sequence)))


def _tasks_of(event: Event) -> list[tuple[str, int]]:
    """Return the tasks that an event is of, each with its sequence."""
    if event.type != "TASKS_CREATED":
        return [(event.task_id, event.sequence)]
    return [
        (task_id_of(event.object_id, sequence), sequence) for sequence in range(event.first, event.first + event.count)
    ]


def _add(spans: list[Span], event: Event) -> None:
    if event.type == "TASKS_CREATED":
        _end(spans, event)
        spans.append(Span(What.QUEUE, event.at_ms, attempt=event.attempt, redrive=event.redrive))
    elif event.type == "TASK_STARTED":
        _start(spans, event)
    elif event.type in _ENDS_OF_WORK:
        _end(spans, event)
    elif event.type in _NEXT_AFTER:
        # TASK_FAILED came before it and ended the work, of this same instant.
        _end(spans, event)
        spans.append(Span(_NEXT_AFTER[event.type], event.at_ms, attempt=event.attempt, redrive=event.redrive))


def _start(spans: list[Span], event: Event) -> None:
    waiting = spans[-1] if spans and spans[-1].to_ms is None else None
    if waiting is not None and (waited_to_ms := _waited_to(waiting, event)) is not None:
        due_at_ms = max(waiting.from_ms, min(waited_to_ms, event.at_ms))
        waiting.to_ms, waiting.outcome = due_at_ms, "due"
        spans.append(Span(What.QUEUE, due_at_ms, attempt=event.attempt, redrive=event.redrive))
    elif waiting is not None:
        waiting.attempt = event.attempt
    _end(spans, event)
    spans.append(Span(What.WORK, event.at_ms, attempt=event.attempt, redrive=event.redrive, worker=event.worker))


def _waited_to(waiting: Span, event: Event) -> int | None:
    """Return until when a task waited for its time before it started, None if it did not; a delay is called so."""
    if waiting.what is What.RETRY:
        return event.at_ms - event.wait_ms
    if waiting.what is What.QUEUE and event.attempt == 1 and event.starts_at_ms > waiting.from_ms:
        waiting.what = What.DELAY
        return event.starts_at_ms
    return None


def with_wait(spans: list[Span], reason: str, due_at_ms: int | None) -> list[Span]:
    """Return a task's spans with what is known of a wait that goes on: its reason, and when it ends (None: unknown)."""
    if not spans or spans[-1].to_ms is not None or spans[-1].what not in {What.QUEUE, What.RETRY}:
        return spans
    last = msgspec.structs.replace(spans[-1], due_at_ms=due_at_ms, waits_for=reason)
    if reason == "delay":
        last.what = What.DELAY
    return [*spans[:-1], last]


def _end(spans: list[Span], event: Event) -> None:
    """End the span that goes on, if one does."""
    if not spans or spans[-1].to_ms is not None:
        return
    span = spans[-1]
    # A worker's clock may be behind the one that began the span.
    span.to_ms = max(span.from_ms, event.at_ms)
    span.outcome = event.type
    if span.what is What.WORK:
        span.spent_ms = None if event.type == "TASK_CANCELLED" else event.spent_ms  # nobody measured it
        span.worker = event.worker or span.worker
        span.error = event.error
