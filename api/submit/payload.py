"""What a client asks for, and the OBJECT_CREATED record that it becomes.

A body is decoded by msgspec, which takes a tenth of pydantic's time; one that it refuses is read once more by the
pydantic model, whose errors name every wrong field and not only the first.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.server import problems, schemas
from api.submit import generated
from app.events import MAX_TASKS, ObjectCreated, encode, object_created_id
from app.rules import idempotency
from app.rules.distribution import why_copies_refused
from app.rules.kinds import why_unhandled
from app.rules.placement import partition_of
from app.settings.project import handled_kinds, makes_objects_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError

    from api.submit.publisher import Record
    from app.settings.settings import Settings

MAX_EVENT_BYTES = 1_000_000
"""The broker takes 1,048,588 bytes a batch by default, and a task request wraps the same content in more fields."""

DEFAULT_KIND = "default"
_ID_BYTES = 16

Value = TypeVar("Value", str, int)


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One object as a client asks for it; the same rules as `api.server.schemas.BatchItem`."""

    name: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    kind: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+\Z")] = DEFAULT_KIND
    tasks: Annotated[int, Meta(ge=1, le=MAX_TASKS)] | UnsetType = UNSET
    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")] | UnsetType = UNSET
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=idempotency.MAX_KEY_CHARS)] | UnsetType = UNSET

    def hash(self, count: int | None = None) -> str:
        """Return the hash of what is asked for, apart from under which id."""
        return idempotency.payload_hash(_said(self.name), _said(self.content), self.kind, _said(self.tasks), count)


class Prepared(NamedTuple):
    """An object that is ready to be stored; `known`: the client chose the id, so another record may have been first."""

    object_id: str
    record: Record
    event: ObjectCreated
    known: bool


_decode = msgspec.json.Decoder(Payload).decode


def decode_payload(data: bytes | msgspec.Raw, model: type[schemas.ObjectRequest]) -> Payload:
    """Return what a JSON text asks for. Raises pydantic's `ValidationError` with all that is wrong."""
    try:
        payload = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Two readers may differ in what they take, such as a number's spelling: then the slow one's word holds.
        return payload_of(model.model_validate_json(bytes(data)))
    if payload.idempotency_key is not UNSET and "idempotency_key" not in model.model_fields:
        return payload_of(model.model_validate_json(bytes(data)))
    return payload


def payload_of(wanted: schemas.ObjectRequest) -> Payload:
    """Return a checked model's fields, those that were given."""
    return Payload(**wanted.model_dump(exclude_unset=True))


def errors_of(error: ValidationError, model: type[schemas.ObjectRequest]) -> list[dict[str, str]]:
    """Return what is wrong, for people."""
    raw_errors = error.errors(include_url=False, include_input=False)
    return problems.errors_of(raw_errors, tuple(model.model_fields))


def what_is_wrong(payload: Payload, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the fields that cannot be taken as they are, and why."""
    missing = _missing_content(payload, settings)
    if missing is not None:
        yield "content", missing
        return
    found = {
        "tasks": _wrong_tasks(payload, settings),
        "kind": why_unhandled(payload.kind, handled_kinds(settings)),
    }
    yield from ((field, wrong) for field, wrong in found.items() if wrong is not None)


def _missing_content(payload: Payload, settings: Settings) -> str | None:
    says_something = payload.name is not UNSET or payload.content is not UNSET or payload.kind != DEFAULT_KIND
    if says_something or makes_objects_up(settings):
        return None
    return (
        "The request is empty, and the API generates no objects because a project is set: send a content, a name or a "
        "kind, or set EBS_GENERATE=true for the API"
    )


def _wrong_tasks(payload: Payload, settings: Settings) -> str | None:
    """Return why an object cannot be split as asked, None if it can."""
    most = settings.max_tasks_per_object
    tasks = settings.tasks_per_object if payload.tasks is UNSET else payload.tasks
    if tasks > most:
        return f"Input should be less than or equal to {most} (EBS_MAX_TASKS_PER_OBJECT)"
    refusal = why_copies_refused(len(_said(payload.name) or "") + len(_said(payload.content) or ""), tasks)
    return None if refusal is None else f"The object {refusal}"


def too_large(event_bytes: int) -> str | None:
    """Return why a topic does not take an event of this size, None if it does."""
    if event_bytes <= MAX_EVENT_BYTES:
        return None
    return f"name and content make a record of {event_bytes} bytes; a topic takes {MAX_EVENT_BYTES}"


def prepare(
    payload: Payload, object_id: str, settings: Settings, at_ms: int, payload_hash: str | UnsetType = UNSET
) -> Prepared:
    """Return the object and its record; with a `payload_hash` where the client chose the id."""
    name, content = payload.name, payload.content
    if not makes_objects_up(settings):
        name, content = _said(name) or "", _said(content) or ""
    elif name is UNSET or content is UNSET:
        made_up_name, made_up_content = generated.name_and_content(object_id)
        name = made_up_name if name is UNSET else name
        content = made_up_content if content is UNSET else content
    event = ObjectCreated(
        id=object_created_id(object_id),
        object_id=object_id,
        kind=payload.kind,
        task_count=settings.tasks_per_object if payload.tasks is UNSET else payload.tasks,
        name=name,
        content=content,
        at_ms=at_ms,
        payload_hash=payload_hash,
    )
    key = object_id.encode()
    record = (partition_of(key, settings.partitions), key, encode(event))
    return Prepared(object_id, record, event, payload_hash is not UNSET)


def new_object_ids(count: int) -> list[str]:
    """Return random ids of 32 hexadecimal digits."""
    digits = os.urandom(_ID_BYTES * count).hex()
    return [digits[at : at + 2 * _ID_BYTES] for at in range(0, len(digits), 2 * _ID_BYTES)]


def _said(value: Value | UnsetType) -> Value | None:
    return None if value is UNSET else value
