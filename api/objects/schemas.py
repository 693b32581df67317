"""What the routes that read objects take and answer. FastAPI reads queries into pydantic models only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from api.server.documented import Documented
from api.server.instants import parse_instant
from api.server.schemas import EpochMs, Kind, MaybeEpochMs, Ms, ObjectLinks, ViewAnswer
from api.view.children import MAX_COUNTED
from app.events import MAX_SEQUENCE
from app.rules.callbacks import CallbackState
from app.rules.ledger_states import ObjectState, TaskState
from app.rules.waiting import WaitOutcome

DEFAULT_LIMIT = 50
MAX_LIMIT = 500

Instant = Annotated[
    int,
    BeforeValidator(parse_instant),
    Field(ge=0, le=253_402_300_799_999, json_schema_extra={"anyOf": [{"type": "integer"}, {"type": "string"}]}),
]
NextCursor = Annotated[str | None, Meta(description="null: this is the last page")]


def _parse_states(text: str) -> str:
    names = [name.strip().upper() for name in text.split(",")]
    if not all(name in ObjectState.__members__ for name in names):
        raise ValueError(f"Input should be one of {', '.join(ObjectState)}, or several of them separated by commas")
    return ",".join(names)


class ObjectsQuery(BaseModel):
    """Filter for objects; an object must match all conditions."""

    model_config = ConfigDict(frozen=True)

    state: Annotated[str, AfterValidator(_parse_states)] | None = Field(
        None,
        description="One state, or several separated by commas. Default: all",
        examples=["FAILED", "CREATED,DISTRIBUTED,PROCESSING"],
    )
    kind: Kind | None = Field(None, description="Only this kind. Default: all")
    created_after: Instant | None = Field(None, description="Created at or after this time: epoch ms or ISO 8601")
    created_before: Instant | None = Field(None, description="Created before this time: epoch ms or ISO 8601")
    parent: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Only objects that tasks of this object have submitted. A page may be short, and not the last one",
    )
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum number of objects")
    cursor: str | None = Field(None, max_length=2_000, description="`next_cursor` of the previous page")

    def states(self) -> frozenset[ObjectState]:
        """Return the states asked for; none: all."""
        return frozenset(ObjectState(name) for name in self.state.split(",")) if self.state else frozenset()


class TasksQuery(BaseModel):
    """Filter for the tasks of an object."""

    model_config = ConfigDict(frozen=True)

    state: TaskState | None = Field(None, description="Only tasks in this state. Default: all")
    limit: int = Field(
        100, ge=1, le=1_000, description="Maximum number of tasks; a page has fewer if results are large"
    )
    cursor: int | None = Field(None, ge=0, le=MAX_SEQUENCE, description="`next_cursor` of the previous page")


class ObjectFigures(Documented, frozen=True, kw_only=True):
    """State of an object and progress of its tasks."""

    id: str
    name: Annotated[str | None, Meta(description="null: the retention of the topic has deleted it")]
    kind: str
    state: ObjectState
    tasks_total: Annotated[int, Meta(description="0: not known yet")]
    tasks_done: int
    tasks_in_progress: int
    tasks_dead: int
    tasks_cancelled: int
    time_spent_ms: Ms
    created_at_ms: MaybeEpochMs
    distributed_at_ms: MaybeEpochMs
    finished_at_ms: Annotated[MaybeEpochMs, Meta(description="null: it has not ended, or is FAILED or CANCELLED")]
    ended_at_ms: Annotated[MaybeEpochMs, Meta(description="When its last task ended, in any state; null: it goes on")]
    links: ObjectLinks


class ListedObject(ObjectFigures, frozen=True, kw_only=True):
    """An object in a list, without its `content`."""

    created_at_ms: EpochMs


class WaitAnswer(Documented, frozen=True):
    """How a wait ended."""

    until: list[ObjectState]
    outcome: Annotated[WaitOutcome, Meta(description="unreachable: the object has ended in another state")]


class ParentAnswer(Documented, frozen=True):
    """The task that submitted an object."""

    object_id: str
    task_id: str


class CallbackAnswer(Documented, frozen=True):
    """The callback of an object's latest end; while the object goes on, that of its next end."""

    url: str
    state: Annotated[
        CallbackState,
        Meta(description="dead: all attempts failed, or the receiver wants no more. A redrive sends it again"),
    ]
    task_id: Annotated[str, Meta(description="The task that sends it", examples=["7f3a-callback1"])]
    attempts: int
    error: Annotated[str | None, Meta(description="Why the last failed attempt failed")]


class DetailLinks(ObjectLinks, frozen=True):
    """Links."""

    parent: str | None
    children: str


class ObjectDetail(ObjectFigures, frozen=True, kw_only=True):
    """An object and the progress of its tasks."""

    parent: Annotated[ParentAnswer | None, Meta(description="null: no task of another object has submitted it")]
    children_count: Annotated[
        int,
        Meta(
            description=f"Objects that its tasks have submitted; {MAX_COUNTED}: that many or more. `links.children` "
            "lists them"
        ),
    ]
    links: DetailLinks

    content: Annotated[
        Any,
        Meta(
            description="The JSON value as it was submitted. If `name` is null too, the retention of the topic has "
            "deleted it"
        ),
    ]
    result: Annotated[Any, Meta(description="What the join returned; null: there is no join, or it has not finished")]
    callback: Annotated[CallbackAnswer | None, Meta(description="null: the object has no `callback_url`")]
    wait: Annotated[WaitAnswer | None, Meta(description="null: the request had no `wait`")]
    view: ViewAnswer


class PageLinks(Documented, frozen=True):
    """Links."""

    self: str
    next: Annotated[str | None, Meta(description="null: this is the last page")]


class ObjectPage(Documented, frozen=True, kw_only=True):
    """Objects, newest first."""

    objects: list[ListedObject]
    counts: Annotated[
        dict[ObjectState, int],
        Meta(description="Current number of objects by state, of the requested kind, whatever their parents"),
    ]
    next_cursor: NextCursor
    links: PageLinks
    view: ViewAnswer


class WaitsAnswer(Documented, frozen=True):
    """What a task waits for."""

    reason: Annotated[str, Meta(description="`retry`, `delay`, ...", examples=["delay"])]
    due_at_ms: Annotated[int | None, Meta(description="UTC epoch milliseconds; null: it does not wait for an instant")]


class TaskAnswer(Documented, frozen=True, kw_only=True):
    """One task; `result` is the JSON that its handler returned. `message` and `worker` are set while it runs."""

    id: str
    sequence: Annotated[int, Meta(description="From 0; 10000 is the split, 10001 the join, from 10002 on callbacks")]
    role: Literal["task", "split", "join", "callback"]
    state: TaskState
    attempts: Annotated[int, Meta(description="Attempts that have begun, over all redrives")]
    created_at_ms: MaybeEpochMs
    started_at_ms: MaybeEpochMs
    ended_at_ms: MaybeEpochMs
    wait_ms: Ms
    spent_ms: Ms
    error: str | None
    result: Any
    progress: Annotated[
        float | None, Meta(description="0 to 1, as reported by the handler while it runs; null: not reported")
    ]
    message: str | None
    worker: str | None
    waiting: Annotated[
        WaitsAnswer | None, Meta(description="null: it does not wait in the table `waiting`; it may be queued")
    ]


class TaskPage(Documented, frozen=True, kw_only=True):
    """The tasks of an object, by sequence; empty until it has been distributed."""

    object_id: str
    state: ObjectState
    tasks_total: int
    tasks: list[TaskAnswer]
    next_cursor: NextCursor
    links: PageLinks
    view: ViewAnswer


class EventOfObject(Documented, frozen=True):
    """An event of the topics, with all its fields. A stream can continue after its `event_id`."""

    event_id: Annotated[str, Meta(examples=["task-events:3:1234"])]
    type: str
    at_ms: EpochMs


class EventPage(Documented, frozen=True, kw_only=True):
    """Events of an object in the order of the topics. OBJECT_CREATED has no `content`, which can be large."""

    object_id: str
    events: list[EventOfObject]
    state: ObjectState
    ended: Annotated[bool, Meta(description="The object has ended. More events follow only after a redrive")]
    next_after: Annotated[str | None, Meta(description="`after` of the next page; null: no more events yet")]
    links: PageLinks
    view: ViewAnswer


class CancelAccepted(Documented, frozen=True):
    """Kafka has stored the cancel: waiting tasks of the object never start, and running ones are cancelled."""

    id: str
    status: Literal["CANCELLING"]
    seen: Annotated[bool, Meta(description="Whether this process has read the command back from Kafka")]
    links: ObjectLinks
