"""What the routes that submit take and answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from msgspec import UNSET, Meta, Raw, UnsetType, field

from api.server.documented import Documented, RequestBody
from api.server.schemas import ErrorItem, ObjectLinks
from app import json_text
from app.events import MAX_TASKS, CallbackUrl, DelayS, DueAt, ItemRecord, Key, Kind
from app.rules import idempotency

MAX_COUNT = 100_000
DEFAULT_KIND = "default"

Value = TypeVar("Value")


class ItemRequest(RequestBody, ItemRecord, frozen=True, kw_only=True, gc=False):
    """What one task is about."""

    name: Annotated[str | UnsetType, Meta(description="Default: the name of the object")] = UNSET
    content: Annotated[Raw, Meta(description="Any JSON value: what the handler of this task gets. Default: null")] = (
        field(default_factory=lambda: json_text.NULL)
    )
    delay_s: Annotated[
        DelayS | UnsetType, Meta(description="Seconds until the task starts. Default: when its object starts")
    ] = UNSET
    due_at: Annotated[
        DueAt | UnsetType, Meta(description="When the task starts, with a time zone. Default: when its object starts")
    ] = UNSET
    key: Annotated[Key | UnsetType, Meta(description="Whose work it is. Default: the key of the object")] = UNSET


TaskNumber = Annotated[int, Meta(ge=1, le=MAX_TASKS)]
# Only documented: `api.submit.payload` refuses an empty list, and says what to send instead.
Items = Annotated[list[ItemRequest], Meta(extra_json_schema={"minItems": 1, "maxItems": MAX_TASKS})]


class ObjectRequest(RequestBody, frozen=True, gc=False):
    """An object to submit. Every field is optional. Unknown fields are refused, so that a typing error is noticed."""

    hints: ClassVar[Mapping[str, str]] = {
        "tasks": 'an item is {"content": ...}, and may have a `name`, `key`, `delay_s` or `due_at`'
    }

    name: Annotated[str | UnsetType, Meta(description="Default: a generated name, or empty if a project is set")] = (
        UNSET
    )
    content: Annotated[
        Raw | UnsetType,
        Meta(
            description="Any JSON value, at most 500 levels deep: what the handler gets, unless `tasks` has items. "
            "Default: 100 to 200 generated characters, or null if a project is set"
        ),
    ] = UNSET
    kind: Annotated[Kind, Meta(description="Selects the handler and the statistics")] = DEFAULT_KIND
    tasks: Annotated[
        TaskNumber | Items | UnsetType,
        Meta(
            description="Number of tasks with this content, or a list of items: one task each, with its own content. "
            "Default: as the kind's split says, else EBS_TASKS_PER_OBJECT (1 with a project)",
            examples=[3, [{"content": {"sku": "a"}}, {"content": {"sku": "b"}, "name": "second"}]],
        ),
    ] = UNSET
    id: Annotated[
        Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")] | UnsetType,
        Meta(description="Your own id, or the id from a 503 answer to repeat that submission"),
    ] = UNSET
    callback_url: Annotated[
        CallbackUrl | UnsetType,
        Meta(
            description="http:// or https:// URL that each end of the object is sent to (see Callbacks). Its host must "
            "be in EBS_WEBHOOK_HOSTS. Default: no callback",
            examples=["https://shop.example/hooks/ebs"],
        ),
    ] = UNSET
    delay_s: Annotated[
        DelayS | UnsetType,
        Meta(description="Seconds until its tasks start, at most a year. Default: 0", examples=[3600]),
    ] = UNSET
    due_at: Annotated[
        DueAt | UnsetType,
        Meta(
            description="When its tasks start, with a time zone, at most a year from now. Default: at once",
            examples=["2027-01-01T09:00:00+01:00"],
        ),
    ] = UNSET
    key: Annotated[
        Key | UnsetType,
        Meta(
            description="Whose work it is, such as a customer: of one key only so many tasks run at once (`per_key`)",
            examples=["customer-17"],
        ),
    ] = UNSET

    def hash(self, count: int | None = None) -> str:
        """Return the hash of all fields but the id."""
        tasks: Any = self.tasks
        asked = (said(self.name), said(self.content), self.kind, said(tasks))
        return idempotency.payload_hash(
            *asked,
            count,
            callback_url=said(self.callback_url),
            delay_s=said(self.delay_s),
            due_at=said(self.due_at),
            key=said(self.key),
        )


class BatchItem(ObjectRequest, frozen=True, gc=False):
    """One object of a batch. With its own `idempotency_key` or `id` it is safe to submit it again alone."""

    idempotency_key: Annotated[
        Annotated[str, Meta(min_length=1, max_length=idempotency.MAX_KEY_CHARS)] | UnsetType,
        Meta(description="Same as the header `Idempotency-Key`, for this object"),
    ] = UNSET


class ObjectAccepted(Documented, frozen=True):
    """Kafka has stored the object; its tasks follow."""

    id: str
    status: Literal["CREATED"]
    links: ObjectLinks


class BulkLinks(Documented, frozen=True):
    """Links."""

    statistics: str


class BulkAccepted(Documented, frozen=True):
    """Kafka has stored all objects."""

    count: int
    status: Literal["accepted"]
    ids: list[str]
    links: BulkLinks


class BatchItemResult(Documented, frozen=True, omit_defaults=True, gc=False):
    """Result of one object: 202 accepted; 400, 413, 422 refused; 429 not sent; 503 not stored, or not known.

    `type` says which. With `urn:ebs:problem:outcome-unknown` the object may be stored; it is safe to submit it again
    with its `id` or key. Empty fields are left out.
    """

    index: Annotated[int, Meta(ge=0, description="Position in the batch, from 0")]
    status: int
    id: str | None = None
    line: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Line of the NDJSON body; only for objects that are not accepted"),
    ] = None
    type: str | None = None
    detail: str | None = None
    errors: list[ErrorItem] | None = None


class BatchSummary(Documented, frozen=True):
    """Number of objects: accepted, refused (not stored), unknown."""

    count: int
    accepted: int
    refused: int
    unknown: int


class BatchAnswer(BatchSummary, frozen=True):
    """Answer to a JSON array. The answer to NDJSON has one line per object, and `{"summary": ...}` at the end."""

    items: list[BatchItemResult]


def said(value: Value | UnsetType) -> Value | None:
    """Return a field's value, None if the request left it out."""
    return None if value is UNSET else value
