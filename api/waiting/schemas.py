"""Requests and answers about waiting tasks."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta
from pydantic import BaseModel, ConfigDict, Field

from api.server.documented import Documented, RequestBody, field_of
from api.server.schemas import EpochMs, Kind, MaybeEpochMs, ViewAnswer
from app import events

_REASON = Meta(
    min_length=1,
    max_length=100,
    description="Why they wait: `retry`, `delay`, `kind` or `key`",
    examples=["retry", "kind"],
)
_MEANING = (
    "`retry`: its last attempt failed; `delay`: its object or item asks for a later start; `kind`: its kind is "
    "paused, or the rate or concurrency of its kind is used up; `key`: other tasks of its key run, or wait for their "
    "retry"
)
_OBJECT_ID = Meta(min_length=1, max_length=220, description="Only tasks of this object")

WaitReason = Annotated[str, _REASON, field_of(_REASON)]
ObjectId = Annotated[str, _OBJECT_ID, field_of(_OBJECT_ID)]


class CountsQuery(BaseModel):
    """Filter for waiting tasks; a task must match all conditions."""

    model_config = ConfigDict(frozen=True)

    kind: Kind | None = None
    reason: WaitReason | None = None
    object_id: ObjectId | None = None


class WaitingQuery(CountsQuery):
    """Filter for waiting tasks, and the page."""

    limit: int = Field(50, ge=1, le=1_000, description="Maximum number of tasks")
    cursor: str | None = Field(None, description="`next_cursor` of the previous page")


class CancelWaitingAsked(RequestBody, frozen=True):
    """Which waiting tasks to cancel; all conditions must hold."""

    kind: Kind | None = None
    reason: WaitReason | None = None
    object_id: ObjectId | None = None
    all: Annotated[bool, Meta(description="Must be true if no condition is given")] = False


class StartAsked(RequestBody, frozen=True):
    """Which waiting tasks to start: one, or all that match a filter."""

    task_id: Annotated[events.TaskId | None, Meta(description="This task alone, without a filter")] = None
    kind: Kind | None = None
    reason: WaitReason | None = None
    object_id: ObjectId | None = None
    all: Annotated[bool, Meta(description="Must be true if no condition is given")] = False


class WaitingLinks(Documented, frozen=True):
    """Links."""

    task: str
    object: str


class WaitingAnswer(Documented, frozen=True, kw_only=True):
    """A task that waits in the table `waiting`."""

    task_id: str
    object_id: str
    kind: str
    reason: Annotated[str, Meta(description=_MEANING)]
    queue: Annotated[str, Meta(description="The queue in whose table it waits", examples=["default", "gpu"])]
    due_at_ms: Annotated[int | None, Meta(description="UTC epoch ms; null: it waits for its kind or key")]
    attempt: Annotated[int, Meta(description="The attempt that waits, from 1")]
    waits_since_ms: MaybeEpochMs
    error: Annotated[str | None, Meta(description="Error of the last attempt; null: this is the first attempt")]
    started: Annotated[bool, Meta(description="The attempt runs: its row stays until it ends")]
    links: WaitingLinks


class WaitingPage(Documented, frozen=True):
    """Waiting tasks, in the order in which they are due."""

    tasks: list[WaitingAnswer]
    next_cursor: str | None
    view: ViewAnswer


class WaitingGroupAnswer(Documented, frozen=True):
    """How many tasks of a kind wait for a reason."""

    kind: str
    reason: str
    waiting_count: Annotated[int, Meta(description="Tasks whose attempt runs included")]
    next_due_at_ms: Annotated[int | None, Meta(description="UTC epoch ms; null: they wait for their kind or key")]


class WaitingCounts(Documented, frozen=True):
    """The number of waiting tasks by kind and reason; the group that is due next comes first."""

    total: int
    groups: list[WaitingGroupAnswer]
    view: ViewAnswer


class OrderAccepted(Documented, frozen=True, kw_only=True):
    """Kafka has stored the command. Workers carry it out within a second; stopped workers when they start."""

    key: Annotated[str, Meta(description="Key of the command on the topic `control`", examples=["start:task:7f3a-0"])]
    status: Literal["accepted"]
    seen: Annotated[bool, Meta(description="Whether this process has read the command back")]
    tasks_count: Annotated[int, Meta(description="Waiting tasks that the command is for, as far as the view knows")]
    at_ms: EpochMs
    warnings: list[str]
