"""The events of one object, each kept once: the row that they should make, and what they count."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from app.events import (
    CALLBACK_KIND,
    CALLBACK_SEQUENCE,
    JOIN_SEQUENCE,
    MAX_TASKS,
    SPLIT_SEQUENCE,
    AboutObject,
    ObjectCreated,
    TaskFinished,
    TasksCreated,
)
from app.rules.results import MAX_ERROR_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.events import TaskEvent

CREATED, STARTED, FINISHED, FAILED = "TASKS_CREATED", "TASK_STARTED", "TASK_FINISHED", "TASK_FAILED"
RETRIED, DEAD, CANCELLED = "TASK_RETRIED", "TASK_DEAD", "TASK_CANCELLED"
_OF_AN_ATTEMPT = {STARTED, FAILED, RETRIED}
_ENDS = {FINISHED: "FINISHED", CANCELLED: "CANCELLED", DEAD: "DEAD"}
"""By event, the state in which a generation has ended; the first of these that it has counts."""
_FAILED = {"DEAD": "FAILED", "CANCELLED": "CANCELLED"}


class Key(NamedTuple):
    """Identifies an event of a task. `attempt` is 0 if a generation (`redrive`) has only one event of the type."""

    redrive: int
    type: str
    attempt: int


class Fact(NamedTuple):
    """The content of an event; `text` is a result (JSON) or an error, shortened by `brief`."""

    at_ms: int
    is_late: bool
    wait_ms: int
    spent_ms: int
    text: str


Task = dict[Key, Fact]

_BRIEF_BYTES = 200
MAX_SUM = 2**63 - 1
"""Largest sum of durations in the tables."""


def brief(text: bytes) -> str:
    """Return a text; a long one as its beginning and checksum, as a slice of objects may have gigabytes of results."""
    if len(text) <= _BRIEF_BYTES:
        return text.decode(errors="replace")
    shown = text[:_BRIEF_BYTES].decode(errors="replace")
    return f"{shown}... ({len(text)} bytes, SHA-256 {sha256(text).hexdigest()})"


def error_bytes(error: str) -> bytes:
    """Return the part of an error that a row keeps."""
    return error[:MAX_ERROR_CHARS].encode()


class ObjectFacts:
    """The events of one object; `last_ms` is the latest event time so far.

    `counted_ms` (first, last) is set if the statistics did not believe the times of its events, and counted the events
    by their own clock at some time between these two.
    `is_doubtful`: events came when the ledger may already have deleted the object, or its first events were deleted.
    """

    __slots__ = (
        "_is_counted",
        "_is_told",
        "_joins",
        "_told_count",
        "callback_url",
        "counted_ms",
        "created",
        "is_doubtful",
        "kind",
        "last_ms",
        "task_count",
        "tasks",
    )

    def __init__(self) -> None:
        self.kind = ""
        self.callback_url = ""
        self.task_count = 0
        self.created: Fact | None = None
        self.tasks: dict[int, Task] = {}
        self.last_ms = 0
        self.is_doubtful = False
        self.counted_ms: tuple[int, int] | None = None
        self._told_count = 0
        self._is_counted = self._is_told = self._joins = False

    def add_creation(self, event: ObjectCreated, *, is_late: bool) -> None:
        """Add OBJECT_CREATED; only the first one counts."""
        if self.created is None:
            self.created = Fact(event.at_ms, is_late, 0, 0, "")
            self.kind = event.kind
            if not self._is_counted:
                self.task_count = event.asked_tasks or 0
        self.last_ms = max(self.last_ms, event.at_ms)

    def add(self, event: TaskEvent, *, is_late: bool) -> None:
        """Add an event of a task; a repeated one changes nothing."""
        first = event.first if isinstance(event, TasksCreated) else event.sequence
        if first < CALLBACK_SEQUENCE:
            self.kind = self.kind or event.kind
        if first < MAX_TASKS:
            self._count(event.task_count)
        name = str(event.__struct_config__.tag)
        redrive = event.redrive if isinstance(event.redrive, int) else 0
        self.last_ms = max(self.last_ms, event.at_ms)
        if isinstance(event, TasksCreated):
            if isinstance(event.about, AboutObject):
                self.callback_url = event.about.callback_url
            made = Fact(event.at_ms, is_late, 0, 0, "")
            for sequence in range(event.first, event.first + event.count):
                self.tasks.setdefault(sequence, {}).setdefault(Key(redrive, name, 0), made)
            if event.first < MAX_TASKS and not redrive:
                self._is_told = True
                self._joins = self._joins or event.joins is True
            return
        key = Key(redrive, name, event.attempt if name in _OF_AN_ATTEMPT else 0)
        text = bytes(event.result) if isinstance(event, TaskFinished) else error_bytes(getattr(event, "error", ""))
        spent_ms = getattr(event, "spent_ms", 0)
        fact = Fact(event.at_ms, is_late, getattr(event, "wait_ms", 0), spent_ms, brief(text))
        self.tasks.setdefault(event.sequence, {}).setdefault(key, fact)

    def _count(self, task_count: int) -> None:
        """Note into how many tasks the object was split."""
        if not self._is_counted:
            self.task_count, self._is_counted = task_count, True
        for sequence in range(self._told_count, task_count):
            self.tasks.setdefault(sequence, {})
        self._told_count = max(self._told_count, task_count)

    @property
    def has_beginning(self) -> bool:
        """Whether its creation is known, and the creation of each of its known tasks."""
        return self.created is not None and all(Key(0, CREATED, 0) in task for task in self.tasks.values())

    @property
    def has_any_beginning(self) -> bool:
        """Whether its creation or that of a task is known: these begin a row."""
        return self.created is not None or any(Key(0, CREATED, 0) in task for task in self.tasks.values())

    def ended_at_ms(self) -> int | None:
        """Return when the last task ended, None if the object has not ended."""
        if self._end() is None:
            return None
        ends = [_end_of(task) for task in self._parts().values()]
        return max((end.at_ms for end in ends if end is not None), default=0)

    def alive_at_ms(self) -> int:
        """Return when a task of an object was last created, started or ended; failures do not count."""
        signs = [
            min(fact.at_ms for key, fact in task.items() if key.type == CREATED)
            for task in self._parts().values()
            if any(key.type == CREATED for key in task)
        ]
        lives = {STARTED, *_ENDS}
        signs += [fact.at_ms for task in self._parts().values() for key, fact in task.items() if key.type in lives]
        return max(signs, default=self.created.at_ms if self.created else 0)

    def described(self) -> dict[str, Any]:
        """Return the description of the object that the ledger should have."""
        tasks = [self.described_task(sequence) for sequence in sorted(self._parts())]
        states = self._states()
        made = [task["created_at_ms"] for task in tasks if task["created_at_ms"] is not None]
        return {
            "kind": self.kind,
            "state": self._state(),
            "tasks_total": self.task_count,
            "tasks_done": states.count("FINISHED"),
            "tasks_in_progress": states.count("IN_PROGRESS"),
            "tasks_dead": states.count("DEAD"),
            "tasks_cancelled": states.count("CANCELLED"),
            "time_spent_ms": min(sum(task["spent_ms"] for task in tasks), MAX_SUM),
            "created_at_ms": None if self.created is None else self.created.at_ms or 1,
            "distributed_at_ms": min(made, default=None),
            "finished_at_ms": (self.ended_at_ms() or 1) if self._end() == "FINISHED" else None,
            "ended_at_ms": None if self._end() is None else self.ended_at_ms() or 1,
        }

    def callback_state(self) -> str | None:
        """Return the state of the latest callback task, None if there is none."""
        redrives = {
            (sequence, key.redrive) for sequence, task in self._parts().items() for key in task if key.type == CREATED
        }
        task = self.tasks.get(CALLBACK_SEQUENCE + sum(redrive > 0 for _, redrive in redrives))
        return None if task is None else state_of(task)

    def _parts(self) -> dict[int, Task]:
        """Return the tasks of the object without its callbacks."""
        return {sequence: task for sequence, task in self.tasks.items() if sequence < CALLBACK_SEQUENCE}

    def _states(self) -> list[str]:
        return [state_of(task) for sequence, task in sorted(self.tasks.items()) if sequence < MAX_TASKS]

    def _end(self) -> str | None:
        """Return the state in which the object has ended, by its split, tasks and join; None if it has not."""
        if not self._is_told:
            split = state_of(self.tasks.get(SPLIT_SEQUENCE, {}))
            return _FAILED.get(split)
        states = self._states()
        if len(states) < self.task_count or not set(states) <= set(_ENDS.values()):
            return None
        if self._joins and set(states) <= {"FINISHED"}:
            states = [state_of(self.tasks.get(JOIN_SEQUENCE, {}))]
            if states[0] not in _ENDS.values():
                return None
        return "FAILED" if "DEAD" in states else "CANCELLED" if "CANCELLED" in states else "FINISHED"

    def _state(self) -> str:
        ended = self._end()
        if ended is not None:
            return ended
        states = {state_of(task) for task in self._parts().values()}
        if states <= {"UNKNOWN", "QUEUED"}:
            return "DISTRIBUTED" if "QUEUED" in states else "CREATED"
        return "PROCESSING"

    def described_task(self, sequence: int) -> dict[str, Any]:
        """Return the description of a task that the ledger should have."""
        task = self.tasks[sequence]
        of = {name: [fact for key, fact in task.items() if key.type == name] for name in (CREATED, STARTED)}
        failures = [
            (key.redrive, key.type == DEAD, key.attempt, fact.text)
            for key, fact in task.items()
            if key.type in {FAILED, DEAD}
        ]
        end = _end_of(task)
        results = [fact.text for key, fact in sorted(task.items()) if key.type == FINISHED and fact.text != "null"]
        return {
            "state": state_of(task),
            "attempts": len(of[STARTED]),
            "created_at_ms": min((fact.at_ms for fact in of[CREATED]), default=0) or None,
            "started_at_ms": max((fact.at_ms for fact in of[STARTED]), default=0) or None,
            "ended_at_ms": None if end is None else end.at_ms,
            "wait_ms": max((fact.wait_ms for fact in of[STARTED]), default=0),
            "spent_ms": sum(fact.spent_ms for key, fact in task.items() if key.type in {FINISHED, FAILED}),
            "error": (max(failures)[3] if failures else "") or None,
            "result": results[-1] if results else "",
        }

    def counted_as(self, sequence: int) -> str:
        """Return the kind under which a task counts."""
        return self.kind if sequence < CALLBACK_SEQUENCE else CALLBACK_KIND

    def happened(self) -> Iterator[tuple[str, str, Fact, bool]]:
        """Yield each event once: the kind under which it counts, its type, its content, and if a redrive made it."""
        if self.created is not None:
            yield self.kind, str(ObjectCreated.__struct_config__.tag), self.created, False
        for sequence, task in self.tasks.items():
            for key, fact in task.items():
                yield self.counted_as(sequence), key.type, fact, key.redrive > 0


def state_of(task: Task) -> str:
    """Return the state of a task in its latest generation: by its end, or else by its latest attempt."""
    told = [key for key in task if key.type != RETRIED]
    latest = max((key.redrive for key in told), default=0)
    now = [key for key in told if key.redrive == latest]
    for name, state in _ENDS.items():
        if any(key.type == name for key in now):
            return state
    started = max((key.attempt for key in now if key.type == STARTED), default=0)
    failed = max((key.attempt for key in now if key.type == FAILED), default=0)
    if started > failed:
        return "IN_PROGRESS"
    if failed:
        return "RETRYING"
    return "QUEUED" if any(key.type == CREATED for key in now) else "UNKNOWN"


def _end_of(task: Task) -> Fact | None:
    state = state_of(task)
    ends = [(key.redrive, fact) for key, fact in task.items() if _ENDS.get(key.type) == state]
    return max(ends, key=lambda end: end[0])[1] if ends else None
