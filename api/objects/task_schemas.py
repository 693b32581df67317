"""What `GET /api/objects/{id}/tasks/{task}` answers."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from api.objects.schemas import TaskAnswer
from api.server.documented import Documented
from api.server.schemas import EpochMs, MaybeEpochMs, ViewAnswer
from app.rules.attempts import AttemptOutcome
from app.rules.timeline import What


class AttemptAnswer(Documented, frozen=True):
    """One attempt. null: it has not happened, or the event that tells it is deleted."""

    redrive: Annotated[int, Meta(description="How often the task had been redriven")]
    number: Annotated[int, Meta(description="From 1, and from 1 again after each redrive")]
    outcome: AttemptOutcome | None
    worker: str | None
    started_at_ms: MaybeEpochMs
    ended_at_ms: MaybeEpochMs
    waited_ms: Annotated[int | None, Meta(description="Time in the queue since the attempt was due")]
    worked_ms: Annotated[int | None, Meta(description="What the function took")]
    error_type: str | None
    error: str | None
    stack_trace: Annotated[str | None, Meta(description="The end of it, at most 8 KiB")]
    next_attempt_at_ms: Annotated[int | None, Meta(description="UTC epoch milliseconds; null: there is no retry")]


class SpanAnswer(Documented, frozen=True):
    """What a stretch of the task's time was spent on."""

    what: What
    from_ms: EpochMs
    to_ms: MaybeEpochMs
    attempt: int
    redrive: int
    outcome: Annotated[str | None, Meta(description="The event that ended it; null: it goes on")]


class TaskLinks(Documented, frozen=True):
    """Links."""

    self: str
    object: str
    tasks: str
    events: str
    dead_letters: Annotated[str, Meta(description="The dead letters of the object")]


class TaskDetail(TaskAnswer, frozen=True, kw_only=True):
    """A task with every attempt. `progress`, `message` and `worker` are set while it runs."""

    object_id: str
    kind: Annotated[str, Meta(description="Which function works it; a redrive can change it")]
    name: Annotated[str | None, Meta(description="null: see `content_deleted`")]
    content: Annotated[Any, Meta(description="What the function gets; of a join the results of the tasks")]
    content_deleted: Annotated[
        bool, Meta(description="The retention of the topics has deleted name and content, or the task has none yet")
    ]
    redrives: int
    attempt_history: Annotated[list[AttemptAnswer], Meta(description="Every attempt, oldest first")]
    timeline: Annotated[list[SpanAnswer], Meta(description="What the task's time went into, without gaps")]
    history_complete: Annotated[
        bool, Meta(description="false: the retention of the topic has deleted some of its events")
    ]
    links: TaskLinks
    view: ViewAnswer
