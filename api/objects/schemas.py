"""What the routes that read objects take and answer (see `api.server.schemas`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from api.server.instants import parse_instant
from api.server.schemas import EpochMs, Kind, ObjectAnswer, ObjectFigures, TaskAnswer, ViewAnswer
from app.events import MAX_SEQUENCE
from app.rules.ledger_states import ObjectState, TaskState
from app.rules.waiting import WaitOutcome  # noqa: TC001  # pydantic reads annotations when it runs

DEFAULT_LIMIT = 50
MAX_LIMIT = 500

Instant = Annotated[
    int,
    BeforeValidator(parse_instant),
    Field(ge=0, le=253_402_300_799_999, json_schema_extra={"anyOf": [{"type": "integer"}, {"type": "string"}]}),
]


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
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum number of objects")
    cursor: str | None = Field(None, max_length=2_000, description="`next_cursor` of the previous page")

    def states(self) -> frozenset[ObjectState]:
        """Return the states asked for; none: all."""
        return frozenset(ObjectState(name) for name in self.state.split(",")) if self.state else frozenset()


class ListedObject(ObjectFigures):
    """An object in a list, without its `content`."""

    created_at_ms: EpochMs


class WaitAnswer(BaseModel):
    """How a wait ended."""

    until: list[ObjectState]
    outcome: WaitOutcome = Field(description="unreachable: the object has ended in another state")


class CallbackAnswer(BaseModel):
    """The callback of an object's latest end; while the object goes on, that of its next end."""

    url: str
    state: Literal["waiting", "delivered", "retrying", "dead", "cancelled"] = Field(
        description="dead: all attempts failed, or the receiver wants no more. A redrive sends it again"
    )
    task_id: str = Field(description="The task that sends it", examples=["7f3a-callback1"])
    attempts: int
    error: str | None = Field(description="Why the last failed attempt failed")


class ObjectDetail(ObjectAnswer):
    """An object and the progress of its tasks."""

    callback: CallbackAnswer | None = Field(description="null: the object has no `callback_url`")
    result: Any = Field(description="What the join returned; null: there is no join, or it has not finished")
    wait: WaitAnswer | None = Field(description="null: the request had no `wait`")
    view: ViewAnswer


class PageLinks(BaseModel):
    """Links."""

    self: str
    next: str | None = Field(description="null: this is the last page")


class ObjectPage(BaseModel):
    """Objects, newest first."""

    objects: list[ListedObject]
    counts: dict[ObjectState, int] = Field(description="Current number of objects by state, of the requested kind")
    next_cursor: str | None = Field(description="null: this is the last page")
    links: PageLinks
    view: ViewAnswer


class TasksQuery(BaseModel):
    """Filter for the tasks of an object."""

    model_config = ConfigDict(frozen=True)

    state: TaskState | None = Field(None, description="Only tasks in this state. Default: all")
    limit: int = Field(
        100, ge=1, le=1_000, description="Maximum number of tasks; a page has fewer if results are large"
    )
    cursor: int | None = Field(None, ge=0, le=MAX_SEQUENCE, description="`next_cursor` of the previous page")


class RunningTaskAnswer(TaskAnswer):
    """One task. `progress`, `message` and `worker` are set while it runs."""

    progress: float | None = Field(description="0 to 1, as reported by the handler; null: not reported")
    message: str | None
    worker: str | None


class TaskPage(BaseModel):
    """The tasks of an object, by sequence; empty until it has been distributed."""

    object_id: str
    state: ObjectState
    tasks_total: int
    tasks: list[RunningTaskAnswer]
    next_cursor: str | None = Field(description="null: this is the last page")
    links: PageLinks
    view: ViewAnswer


class EventOfObject(BaseModel):
    """An event of the topics. A stream can continue after its `event_id`."""

    model_config = ConfigDict(extra="allow")

    event_id: str = Field(examples=["task-events:3:1234"])
    type: str
    at_ms: EpochMs


class EventPage(BaseModel):
    """Events of an object in the order of the topics. OBJECT_CREATED has no `content`, which can be large."""

    object_id: str
    events: list[EventOfObject]
    state: ObjectState
    ended: bool = Field(description="The object has ended. More events follow only after a redrive")
    next_after: str | None = Field(description="`after` of the next page; null: no more events yet")
    links: dict[str, Any]
    view: ViewAnswer
