"""What the routes that read objects take and answer (see `api.server.schemas`)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from api.objects.waiting import Outcome  # noqa: TC001  # pydantic reads annotations when it runs
from api.server.instants import parse_instant
from api.server.schemas import EpochMs, Kind, ObjectAnswer, ObjectFigures, TaskAnswer, ViewAnswer
from app.events import MAX_TASKS
from app.rules.ledger_states import ObjectState, TaskState

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
    """Which objects to show; all conditions must hold."""

    model_config = ConfigDict(frozen=True)

    state: Annotated[str, AfterValidator(_parse_states)] | None = Field(
        None,
        description="One state, or several separated by commas; left out: all",
        examples=["FAILED", "CREATED,DISTRIBUTED,PROCESSING"],
    )
    kind: Kind | None = Field(None, description="Only this kind; left out: all")
    created_after: Instant | None = Field(None, description="Created then or later: epoch ms or ISO 8601")
    created_before: Instant | None = Field(None, description="Created before then: epoch ms or ISO 8601")
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="At most so many")
    cursor: str | None = Field(None, max_length=2_000, description="`next_cursor` of the page before")

    def states(self) -> frozenset[ObjectState]:
        """Return the states asked for; none: all."""
        return frozenset(ObjectState(name) for name in self.state.split(",")) if self.state else frozenset()


class ListedObject(ObjectFigures):
    """An object in a list; `content` is left out."""

    created_at_ms: EpochMs


class WaitAnswer(BaseModel):
    """How a wait ended."""

    until: list[ObjectState]
    outcome: Outcome = Field(description="unreachable: it has ended otherwise")


class ObjectDetail(ObjectAnswer):
    """An object and how far its tasks are."""

    wait: WaitAnswer | None = Field(description="null: nobody asked to wait")
    view: ViewAnswer


class PageLinks(BaseModel):
    """Where to go from here."""

    self: str
    next: str | None = Field(description="null: this is the last page")


class ObjectPage(BaseModel):
    """Objects, newest first."""

    objects: list[ListedObject]
    counts: dict[ObjectState, int] = Field(description="How many there are by state, of the kind asked for, now")
    next_cursor: str | None = Field(description="null: this is the last page")
    links: PageLinks
    view: ViewAnswer


class TasksQuery(BaseModel):
    """Which tasks of an object to show."""

    model_config = ConfigDict(frozen=True)

    state: TaskState | None = Field(None, description="Only tasks in this state; left out: all")
    limit: int = Field(100, ge=1, le=1_000, description="At most so many; fewer where results are large")
    cursor: int | None = Field(None, ge=0, lt=MAX_TASKS, description="`next_cursor` of the page before")


class RunningTaskAnswer(TaskAnswer):
    """One task, and what its worker says of it while it runs (null: nothing)."""

    progress: float | None = Field(description="0 to 1, as its handler told")
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
    """An event as it stands on its topic, and where: `event_id` resumes a stream."""

    model_config = ConfigDict(extra="allow")

    event_id: str = Field(examples=["task-events:3:1234"])
    type: str
    at_ms: EpochMs


class EventPage(BaseModel):
    """The events of an object in the order of the topics; OBJECT_CREATED without `content`, which may be large."""

    object_id: str
    events: list[EventOfObject]
    state: ObjectState
    ended: bool = Field(description="Nothing follows, unless somebody redrives a dead letter of it")
    next_after: str | None = Field(description="`after` of the next page; null: these are all so far")
    links: dict[str, Any]
    view: ViewAnswer
