"""What goes in and out over HTTP, of submits and of objects, and what all rooms share.

Pydantic models check submits and draw their part of the OpenAPI document. Answers are encoded by msgspec (a pydantic
pass costs more than the whole lookup); the functional tests hold them against these models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta
from pydantic import BaseModel, ConfigDict, Field

from api.server.documented import Documented, field_of
from app import events
from app.events import MAX_TASKS, MAX_URL_CHARS
from app.rules.idempotency import MAX_KEY_CHARS
from app.rules.ledger_states import ObjectState, TaskState  # noqa: TC001  # pydantic reads annotations when it runs

MAX_COUNT = 100_000

_EPOCH_MS = Meta(description="UTC epoch milliseconds", examples=[1_795_489_276_303])
_MAYBE_EPOCH_MS = Meta(description="UTC epoch milliseconds; null: has not happened yet")

Kind = Annotated[events.Kind, field_of(*events.Kind.__metadata__)]
EpochMs = Annotated[int, _EPOCH_MS, field_of(_EPOCH_MS)]
MaybeEpochMs = Annotated[int | None, _MAYBE_EPOCH_MS, field_of(_MAYBE_EPOCH_MS)]
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

    name: str = Field("", description="Default: a generated name, or empty if a project is set")
    content: Any = Field(
        None,
        description="Any JSON value, at most 500 levels deep: what the handler gets, unless `tasks` has items. "
        "Default: 100 to 200 generated characters, or null if a project is set",
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
    callback_url: str = Field(
        "",
        min_length=1,
        max_length=MAX_URL_CHARS,
        description="http:// or https:// URL that each end of the object is sent to (see Callbacks). Its host must be "
        "in EBS_WEBHOOK_HOSTS. Default: no callback",
        examples=["https://shop.example/hooks/ebs"],
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
    sequence: int = Field(description="From 0; 10000 is the split, 10001 the join, from 10002 on there are callbacks")
    role: Literal["task", "split", "join", "callback"]
    state: TaskState
    attempts: int
    created_at_ms: MaybeEpochMs
    started_at_ms: MaybeEpochMs
    ended_at_ms: MaybeEpochMs
    wait_ms: Ms
    spent_ms: Ms
    error: str | None
    result: Any


class ViewAnswer(Documented, frozen=True):
    """How far the answer is behind the topics."""

    lag_records: Annotated[
        int | None, Meta(description="Committed records that the view has not read yet; null: not known")
    ]
    lag_ms: Annotated[
        int | None,
        Meta(description="Age of the view: it contains everything committed before this many milliseconds"),
    ]
    as_of_ms: MaybeEpochMs


class ProblemDocument(BaseModel):
    """An error (RFC 9457). Programs can rely on `type`; the texts may change."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:ebs:problem:not-found"])
    title: str
    status: int
    detail: str
    instance: str
    errors: list[ErrorItem] | None = None
