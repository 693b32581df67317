"""What goes in and out over HTTP, as pydantic models: they check the one body and draw the OpenAPI document.

Answers are encoded by msgspec straight from dictionaries (a pydantic pass costs more than the whole lookup); the
functional tests hold them against these models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.events import MAX_TASKS
from app.rules.idempotency import MAX_KEY_CHARS
from app.rules.ledger_states import ObjectState, TaskState  # noqa: TC001  # pydantic reads annotations when it runs

KIND_PATTERN = r"^[A-Za-z0-9._-]+$"
MAX_COUNT = 100_000

Kind = Annotated[str, Field(min_length=1, max_length=64, pattern=KIND_PATTERN)]
EpochMs = Annotated[int, Field(description="UTC epoch milliseconds", examples=[1_795_489_276_303])]
MaybeEpochMs = Annotated[int | None, Field(description="UTC epoch milliseconds; null: not yet")]
Ms = Annotated[int, Field(ge=0, description="Milliseconds")]


class ObjectRequest(BaseModel):
    """An object to work on; every field may be left out. Unknown fields are refused, so a typo is not lost."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field("", description="Left out: made up, or empty where handlers are set")
    content: str = Field("", description="Left out: 100 to 200 characters are made up, or empty where handlers are set")
    kind: Kind = Field("default", description="Which counts and which handler it belongs to")
    tasks: int = Field(1, ge=1, le=MAX_TASKS, description="Into how many tasks it is split; left out: a setting (3)")
    id: str = Field("", pattern=r"^[0-9a-f]{32}$", description="The id that a 503 answer named: repeats that submit")


class ErrorItem(BaseModel):
    """One wrong thing in a request: `pointer` into the body (JSON Pointer) or `parameter` of the query."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class BatchItem(ObjectRequest):
    """One object of a batch; with an `idempotency_key` or `id` of its own it is safe to repeat by itself."""

    idempotency_key: str = Field(
        "", min_length=1, max_length=MAX_KEY_CHARS, description="As the header of a single submit; makes the id"
    )


class BatchItemResult(BaseModel):
    """What became of one item: 202 accepted, 400, 413, 422 refused, 429 not sent, 503 not stored or unknown.

    `type` tells which; of `urn:ebs:problem:outcome-unknown` the item may be stored, and repeating it with its `id` or
    key is safe. Fields that say nothing are left out.
    """

    index: int = Field(ge=0, description="Its place in the batch")
    status: int
    id: str | None = None
    line: int | None = Field(None, ge=1, description="Of an NDJSON body, for what is not accepted")
    type: str | None = None
    detail: str | None = None
    errors: list[ErrorItem] | None = None


class BatchSummary(BaseModel):
    """How many items there were: accepted, refused (not stored), unknown."""

    count: int
    accepted: int
    refused: int
    unknown: int


class BatchAnswer(BatchSummary):
    """The answer to a JSON array; NDJSON is answered by a line an item, and `{"summary": ...}` at the end."""

    items: list[BatchItemResult]


class ObjectLinks(BaseModel):
    """Where to go from here."""

    self: str
    tasks: str
    events: str
    statistics: str


class ObjectAccepted(BaseModel):
    """The broker has the object; its tasks follow."""

    id: str
    status: Literal["CREATED"]
    links: ObjectLinks


class BulkLinks(BaseModel):
    """Where to go from here."""

    statistics: str


class BulkAccepted(BaseModel):
    """The broker has all of the objects."""

    count: int
    status: Literal["accepted"]
    ids: list[str]
    links: BulkLinks


class ObjectFigures(BaseModel):
    """What every answer says of an object: how far its tasks are."""

    id: str
    name: str | None = Field(description="null: the topic's retention has taken it")
    kind: str
    state: ObjectState
    tasks_total: int = Field(description="0: nobody has said yet")
    tasks_done: int
    tasks_in_progress: int
    tasks_dead: int
    tasks_cancelled: int
    time_spent_ms: Ms
    distributed_at_ms: MaybeEpochMs
    finished_at_ms: MaybeEpochMs
    links: ObjectLinks


class ObjectAnswer(ObjectFigures):
    """An object and how far its tasks are."""

    content: str | None = Field(description="null: the topic's retention has taken it")
    created_at_ms: MaybeEpochMs


class TaskAnswer(BaseModel):
    """One task; `result` is the JSON that its handler returned."""

    id: str
    sequence: int
    state: TaskState
    attempts: int
    created_at_ms: MaybeEpochMs
    started_at_ms: MaybeEpochMs
    ended_at_ms: MaybeEpochMs
    wait_ms: Ms
    spent_ms: Ms
    error: str | None
    result: Any


class Spread(BaseModel):
    """A duration in milliseconds; null where nothing has been measured."""

    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class Figures(BaseModel):
    """Counts of events, and durations, under the kind of the object that they belong to."""

    objects_created: int
    objects_finished: int
    tasks_created: int
    tasks_started: int
    tasks_finished: int
    tasks_failed: int = Field(description="Attempts that failed")
    tasks_retried: int = Field(description="Attempts that were followed by another one")
    tasks_died: int = Field(description="Tasks that went to the dead letters, redriven since or not")
    tasks_cancelled: int
    time_spent_ms: Ms
    late_events: int = Field(description="Events read after their window was over for EBS_WINDOW_GRACE_S; they count")
    expired_events: int = Field(description="Events of objects that were forgotten; they count nowhere else")
    queue_wait_ms: Spread
    work_time_ms: Spread
    object_time_ms: Spread


class FiguresOfKind(Figures):
    """The figures of one kind, and the states that its tasks are in now."""

    tasks_queued: int
    tasks_in_progress: int
    tasks_waiting_retry: int
    tasks_dead: int = Field(description="Tasks that are dead now: died and not redriven")
    imbalance: int = Field(description="Tasks created less tasks in any state: 0, or something was lost or doubled")


class ViewAnswer(BaseModel):
    """How far behind the topics an answer is."""

    lag_records: int | None = Field(description="Committed records that it does not hold yet; null: not known")
    lag_ms: int | None = Field(None, description="It holds at least all that was committed so long ago")
    as_of_ms: MaybeEpochMs


class StatisticsAnswer(FiguresOfKind):
    """Totals of all time over all kinds, and by kind."""

    kinds: dict[str, FiguresOfKind]
    view: ViewAnswer


class WindowAnswer(Figures):
    """The figures of one tumbling window (start inclusive, end exclusive) of one kind."""

    start_ms: EpochMs
    end_ms: EpochMs
    size_s: int
    kind: str


class WindowList(BaseModel):
    """Windows, newest first."""

    windows: list[WindowAnswer]
    view: ViewAnswer


class Check(BaseModel):
    """One thing that has to be right."""

    name: str
    ok: bool
    detail: str


class Health(BaseModel):
    """`checks` only with `?verbose`; `namespace` (EBS_NAMESPACE) where there is one."""

    status: Literal["ok"]
    namespace: str | None = None
    checks: list[Check] | None = None


class ProblemDocument(BaseModel):
    """An error (RFC 9457); `type` is stable, the texts are for people."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:ebs:problem:not-found"])
    title: str
    status: int
    detail: str
    instance: str
    errors: list[ErrorItem] | None = None
