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
MaybeEpochMs = Annotated[int | None, Field(description="UTC epoch milliseconds; null: has not happened yet")]
Ms = Annotated[int, Field(ge=0, description="Milliseconds")]
TaskNumber = Annotated[int, Field(ge=1, le=MAX_TASKS)]


class ItemRequest(BaseModel):
    """What one task is about."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    content: Any = Field(None, description="Any JSON value: what the handler of this task gets")
    name: str = Field("", description="Default: the name of the object")


Items = Annotated[list[ItemRequest], Field(min_length=1, max_length=MAX_TASKS)]


class ObjectRequest(BaseModel):
    """An object to submit. Every field is optional. Unknown fields are refused, so that a typing error is noticed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field("", description="Default: a generated name, or empty if handlers are set")
    content: Any = Field(
        None,
        description="Any JSON value, at most 500 levels deep: what the handler gets, unless `tasks` has items. "
        "Default: 100 to 200 generated characters, or null if handlers are set",
    )
    kind: Kind = Field("default", description="Selects the handler and the statistics")
    tasks: TaskNumber | Items = Field(
        1,
        description="Number of tasks with this content, or a list of items: one task each, with its own content. "
        "Default: EBS_TASKS_PER_OBJECT (3)",
        examples=[3, [{"content": {"sku": "a"}}, {"content": {"sku": "b"}, "name": "second"}]],
    )
    id: str = Field(
        "", pattern=r"^[0-9a-f]{32}$", description="Your own id, or the id from a 503 answer to repeat that submission"
    )


class ErrorItem(BaseModel):
    """One error of a request: a `pointer` into the body (JSON Pointer), or a `parameter` of the query."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class BatchItem(ObjectRequest):
    """One object of a batch. With its own `idempotency_key` or `id` it is safe to submit it again alone."""

    idempotency_key: str = Field(
        "", min_length=1, max_length=MAX_KEY_CHARS, description="Same as the header `Idempotency-Key`, for this object"
    )


class BatchItemResult(BaseModel):
    """Result of one object: 202 accepted; 400, 413, 422 refused; 429 not sent; 503 not stored, or not known.

    `type` says which. With `urn:ebs:problem:outcome-unknown` the object may be stored; it is safe to submit it again
    with its `id` or key. Empty fields are left out.
    """

    index: int = Field(ge=0, description="Position in the batch, from 0")
    status: int
    id: str | None = None
    line: int | None = Field(None, ge=1, description="Line of the NDJSON body; only for objects that are not accepted")
    type: str | None = None
    detail: str | None = None
    errors: list[ErrorItem] | None = None


class BatchSummary(BaseModel):
    """Number of objects: accepted, refused (not stored), unknown."""

    count: int
    accepted: int
    refused: int
    unknown: int


class BatchAnswer(BatchSummary):
    """Answer to a JSON array. The answer to NDJSON has one line per object, and `{"summary": ...}` at the end."""

    items: list[BatchItemResult]


class ObjectLinks(BaseModel):
    """Links."""

    self: str
    tasks: str
    events: str
    statistics: str


class ObjectAccepted(BaseModel):
    """Kafka has stored the object; its tasks follow."""

    id: str
    status: Literal["CREATED"]
    links: ObjectLinks


class BulkLinks(BaseModel):
    """Links."""

    statistics: str


class BulkAccepted(BaseModel):
    """Kafka has stored all objects."""

    count: int
    status: Literal["accepted"]
    ids: list[str]
    links: BulkLinks


class ObjectFigures(BaseModel):
    """State of an object and progress of its tasks."""

    id: str
    name: str | None = Field(description="null: the retention of the topic has deleted it")
    kind: str
    state: ObjectState
    tasks_total: int = Field(description="0: not known yet")
    tasks_done: int
    tasks_in_progress: int
    tasks_dead: int
    tasks_cancelled: int
    time_spent_ms: Ms
    distributed_at_ms: MaybeEpochMs
    finished_at_ms: MaybeEpochMs
    links: ObjectLinks


class ObjectAnswer(ObjectFigures):
    """An object and the progress of its tasks."""

    content: Any = Field(
        description="The JSON value as it was submitted. If `name` is null too, the retention of the topic has "
        "deleted it"
    )
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
    """Distribution of a duration in milliseconds. null: not measured yet."""

    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class Figures(BaseModel):
    """Counts of events, and durations. A task counts under the kind of its object."""

    objects_created: int
    objects_finished: int
    tasks_created: int
    tasks_started: int
    tasks_finished: int
    tasks_failed: int = Field(description="Attempts that failed")
    tasks_retried: int = Field(description="Failed attempts that were retried")
    tasks_died: int = Field(description="Tasks that became dead letters, including those redriven since")
    tasks_cancelled: int
    time_spent_ms: Ms
    late_events: int = Field(
        description="Events read more than EBS_WINDOW_GRACE_S after the end of their window; they are counted"
    )
    expired_events: int = Field(
        description="Events of objects that the ledger has forgotten; they are counted only here"
    )
    queue_wait_ms: Spread
    work_time_ms: Spread
    object_time_ms: Spread


class FiguresOfKind(Figures):
    """The figures of one kind, and the states that its tasks are in now."""

    tasks_queued: int
    tasks_in_progress: int
    tasks_waiting_retry: int
    tasks_dead: int = Field(description="Tasks that are dead now: not redriven since they died")
    imbalance: int = Field(
        description="Created tasks minus tasks in all states. Not 0: a task was lost or counted twice"
    )


class ViewAnswer(BaseModel):
    """How far the answer is behind the topics."""

    lag_records: int | None = Field(description="Committed records that the view has not read yet; null: not known")
    lag_ms: int | None = Field(
        None, description="Age of the view: it contains everything committed before this many milliseconds"
    )
    as_of_ms: MaybeEpochMs


class StatisticsAnswer(FiguresOfKind):
    """Totals since the start, of all kinds and by kind."""

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
    """One health check."""

    name: str
    ok: bool
    detail: str


class Health(BaseModel):
    """Health of the process. `checks` only with `?verbose`; `namespace` only if EBS_NAMESPACE is set."""

    status: Literal["ok"]
    namespace: str | None = None
    checks: list[Check] | None = None


class ProblemDocument(BaseModel):
    """An error (RFC 9457). Programs can rely on `type`; the texts may change."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:ebs:problem:not-found"])
    title: str
    status: int
    detail: str
    instance: str
    errors: list[ErrorItem] | None = None
