"""An object's row that hears of events, and what becomes due meanwhile; its events, by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from app.events import (
    ObjectCreated,
    TaskCancelled,
    TaskDead,
    TaskFinished,
    TasksCreated,
    TaskStarted,
    decode_object_end,
    encode,
    role_of,
    task_id_of,
)
from app.rules.follow_ups import FollowUps
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.ledger_states import ObjectState, state_of_object
from app.rules.results import Results
from app.rules.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.events import TaskEvent

AT_MS = 1_795_489_276_303
PARTITION = 3


class Told:
    """An object's row, and what became due while it heard of its events."""

    def __init__(self, events: Iterable[Any] = ()) -> None:
        self.row = ObjectRow()
        self.tally = Tally()
        self.results = Results(lambda _key: None)
        self.follow_ups = FollowUps(lambda id_, sequence: self.results.read(id_.encode(), sequence).result or b"null")
        self.hear(*events)

    def hear(self, *events: Any) -> Told:
        """Join events into the row."""
        for event in events:
            apply = apply_object_created if isinstance(event, ObjectCreated) else apply_task_event
            apply(self.row, event, self.tally, self.results, self.follow_ups)  # type: ignore[arg-type]  # either one
        return self

    @property
    def state(self) -> ObjectState:
        """Return where the object stands."""
        return state_of_object(self.row)

    @property
    def ends(self) -> list[Any]:
        """Return the ends that were told, as they are read from the topic."""
        return [decode_object_end(encode(end)) for end in self.follow_ups.ends]

    def joins(self) -> list[Any]:
        """Return the requests for joins."""
        return [request for made in self.follow_ups.new_tasks(PARTITION, AT_MS + 900) for request in made.requests]


def created() -> ObjectCreated:
    """Return the object's creation."""
    return ObjectCreated(object_id="a", kind="order", name="n", content="c", at_ms=AT_MS)


def tasks(count: int, *, joins: bool = True) -> TasksCreated:
    """Return the fact that the object has so many tasks."""
    return TasksCreated("c-a", "a", PARTITION, "order", 0, count, count, AT_MS + 1, joins=joins)


def special(sequence: int) -> TasksCreated:
    """Return the fact that the object has a split, or a join."""
    role = role_of(sequence)
    return TasksCreated(f"c-{task_id_of('a', sequence)}", "a", PARTITION, "order", sequence, 1, 1, AT_MS, role=role)


def redriven(sequence: int, redrive: int = 1) -> TasksCreated:
    """Return the fact that a task was redriven."""
    return TasksCreated("r", "a", PARTITION, "order", sequence, 1, max(1, sequence % 10_000 + 1), AT_MS, redrive)


def _common(sequence: int, count: int, at_ms: int) -> tuple[Any, ...]:
    return ("a", task_id_of("a", sequence), PARTITION, "order", sequence, count, 1, at_ms)


def run(sequence: int, count: int = 1, result: str = "null", *, redrive: int = 0) -> list[TaskEvent]:
    """Return the events of a task that finishes."""
    about: dict[str, Any] = {"role": role_of(sequence), "redrive": redrive or msgspec.UNSET}
    raw = msgspec.Raw(result.encode())
    common = _common(sequence, count, AT_MS + 10 + sequence % 100)
    return [
        TaskStarted(f"s-{sequence}-{redrive}", *common, "w", 1, **about),
        TaskFinished(f"f-{sequence}-{redrive}", *common, "w", 1, 1, raw, **about),
    ]


def death(sequence: int, count: int = 1) -> TaskDead:
    """Return the death of a task."""
    return TaskDead(
        f"d-{sequence}", *_common(sequence, count, AT_MS + 20), "w", 1, 1, "ValueError: x", role=role_of(sequence)
    )


def cancel(sequence: int, count: int = 1) -> TaskCancelled:
    """Return the end of a task that was cancelled."""
    return TaskCancelled(f"n-{sequence}", *_common(sequence, count, AT_MS + 20), role=role_of(sequence))
