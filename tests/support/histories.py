"""Lives of objects, as events in causal order, for the properties of ledger and windows."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from app.events import (
    CALLBACK_KIND,
    CALLBACK_SEQUENCE,
    AboutObject,
    ObjectCreated,
    TaskCancelled,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TasksCreated,
    TaskStarted,
    object_created_id,
    task_id_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.events import TaskEvent

BASE_MS = 1_795_489_276_303
URL = "https://shop.example/hooks"
SEEDS = st.integers(0, 2**32 - 1)
"""Of the random draws that hypothesis need not see one by one: it is ten times as fast that way."""


class Life(NamedTuple):
    """One generation of a task: how many attempts it makes and how the last one ends (a key of `ENDINGS`)."""

    attempts: int
    ending: str


ENDINGS = {
    "finished": (TaskStarted, TaskFinished),
    "dead": (TaskStarted, TaskFailed, TaskDead),
    "cancelled before the start": (TaskCancelled,),
    "cancelled while it ran": (TaskStarted, TaskCancelled),
    "queued": (),
    "running": (TaskStarted,),
    "waiting for retry": (TaskStarted, TaskFailed, TaskRetried),
}
"""What follows the creation of the last attempt."""


def object_created(
    object_id: str, *, at_ms: int, kind: str = "default", task_count: int | None = None
) -> ObjectCreated:
    """Return OBJECT_CREATED as the API writes it."""
    return ObjectCreated(
        id=object_created_id(object_id),
        object_id=object_id,
        kind=kind,
        task_count=task_count,
        name="a name",
        content=msgspec.Raw(b'"some content"'),
        at_ms=at_ms,
    )


def task_event(
    event_type: Any,
    object_id: str,
    sequence: int,
    *,
    at_ms: int,
    task_count: int = 1,
    kind: str = "default",
    attempt: int = 1,
    redrive: int = 0,
    wait_ms: int = 12,
    spent_ms: int = 3_012,
    result: bytes = b"null",
    error: str = "ValueError: no",
) -> Any:
    """Return an event of a task (of TASKS_CREATED one of it alone); what its type has no field for is left out."""
    fields = {
        "id": f"{event_type.__name__}-{object_id}-{sequence}-{redrive}-{attempt}",
        "object_id": object_id,
        "task_id": task_id_of(object_id, sequence),
        "object_partition": 0,
        "kind": kind,
        "sequence": sequence,
        "first": sequence,
        "count": 1,
        "task_count": task_count,
        "attempt": attempt,
        "at_ms": at_ms,
        "worker": "processing-1",
        "wait_ms": wait_ms,
        "spent_ms": spent_ms,
        "result": msgspec.Raw(result),
        "error": error,
        "redrive": redrive or msgspec.UNSET,
    }
    known = {name: value for name, value in fields.items() if name in event_type.__struct_fields__}
    return event_type(**known)


def made_fact(  # noqa: PLR0917  # the fields of a request, in their order
    event_id: str,
    object_id: str,
    _task_id: str,
    partition: int,
    kind: str,
    sequence: int,
    task_count: int,
    _attempt: int,
    at_ms: int,
    **more: Any,
) -> TasksCreated:
    """Return TASKS_CREATED of one task, from the fields of its request."""
    return TasksCreated(event_id, object_id, partition, kind, sequence, 1, task_count, at_ms, **more)


def types_of(lives: Sequence[Life]) -> list[tuple[Any, int, int]]:
    """Return a task's story as event type, attempt and generation, in causal order."""
    story: list[tuple[Any, int, int]] = []
    for generation, life in enumerate(lives):
        story.append((TasksCreated, 1, generation))
        for attempt in range(1, life.attempts):
            story += [(one, attempt, generation) for one in (TaskStarted, TaskFailed, TaskRetried)]
        story += [(one, life.attempts, generation) for one in ENDINGS[life.ending]]
    return story


def lives_of_a_task(*endings: str) -> st.SearchStrategy[list[Life]]:
    """Return a strategy for a task's generations: all but the last end dead, the last one as one of `endings`."""
    attempts = st.integers(1, 3)
    dead = st.lists(st.builds(Life, attempts, st.just("dead")), max_size=3)
    last = st.builds(Life, attempts, st.sampled_from(endings or tuple(ENDINGS)))
    return st.builds(lambda earlier, final: [*earlier, final], dead, last)


@st.composite
def histories(
    draw: Callable[[Any], Any],
    *endings: str,
    object_id: str = "7f3a",
    kind: str = "default",
    callbacks: bool = False,
) -> list[Any]:
    """Draw the events of one object in an order that can have happened, with clocks that need not agree.

    With `callbacks` there are also those of one or two callbacks.
    """
    task_lives = draw(st.lists(lives_of_a_task(*endings), min_size=1, max_size=5))
    random = Random(draw(SEEDS))
    count = len(task_lives)

    def at_ms() -> int:
        return BASE_MS + random.randrange(40_000)

    def event(sequence: int, step: tuple[Any, int, int], kind: str = kind) -> TaskEvent:
        event_type, attempt, redrive = step
        one: TaskEvent = task_event(
            event_type,
            object_id,
            sequence,
            at_ms=at_ms(),
            task_count=count,
            kind=kind,
            attempt=attempt,
            redrive=redrive,
            wait_ms=random.randrange(20_000),
            spent_ms=random.randrange(20_000),
            result=b'{"n":%d}' % sequence,
            error=f"attempt {attempt} of generation {redrive} as {event_type.__name__}",
        )
        return one

    stories = [[event(number, step) for step in types_of(lives)] for number, lives in enumerate(task_lives)]
    told_count = draw(st.sampled_from([None, count]))
    merged: list[Any] = [object_created(object_id, at_ms=at_ms(), kind=kind, task_count=told_count)]
    if draw(st.booleans()):
        # As distribution tells it: one event makes all tasks.
        made = [story.pop(0) for story in stories]
        merged.append(
            msgspec.structs.replace(
                made[0], count=count, about=AboutObject(callback_url=URL) if callbacks else msgspec.UNSET
            )
        )
    for number, lives in enumerate(draw(st.lists(lives_of_a_task(), min_size=1, max_size=2)) if callbacks else ()):
        stories.append([event(CALLBACK_SEQUENCE + number, step, CALLBACK_KIND) for step in types_of(lives)])
    while any(stories):
        merged.append(random.choice([story for story in stories if story]).pop(0))
    return merged


def delivered(events: Sequence[Any], seed: int) -> list[Any]:
    """Return events as they may arrive: in any order, some of them again."""
    random = Random(seed)
    arriving = [*events, *random.choices(events, k=random.randrange(len(events)))]
    random.shuffle(arriving)
    return arriving
