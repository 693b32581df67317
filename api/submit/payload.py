"""What a client asks for, and the OBJECT_CREATED record that it becomes."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import msgspec
import pydantic_core
from msgspec import UNSET, Meta, UnsetType

from api.submit import generated
from api.submit.wrong_fields import wrong_fields
from app import json_text
from app.events import (
    CALLBACK_KIND,
    DECODE_ERRORS,
    MAX_TASKS,
    CallbackUrl,
    ItemRecord,
    Kind,
    ObjectCreated,
    encode,
    object_created_id,
)
from app.rules import idempotency
from app.rules.distribution import why_refused
from app.rules.kinds import why_unhandled
from app.rules.placement import partition_of
from app.settings.project import handled_kinds, makes_objects_up, splits_by_itself

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.submit.publisher import Record
    from app.settings.settings import Settings

MAX_EVENT_BYTES = 1_000_000
"""The broker takes 1,048,588 bytes a batch by default, and a task request wraps the same content in more fields."""

DEFAULT_KIND = "default"
_ID_BYTES = 16
_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`\Z")
_STEP = re.compile(r"\[(\d+)\]|\.([^.\[]+)")

Value = TypeVar("Value")


class NotJson(ValueError):
    """A text is not JSON; `str()` of one says where it stops to be."""


class WrongFields(ValueError):
    """A payload has fields that cannot be taken: `errors` as in a problem document."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__(errors)
        self.errors = errors


class ItemPayload(ItemRecord, frozen=True, forbid_unknown_fields=True, gc=False):
    """One task as a client asks for it; `api.server.schemas.ItemRequest` documents it."""


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One object as a client asks for it; `api.server.schemas.ObjectRequest` documents it."""

    name: str | UnsetType = UNSET
    content: msgspec.Raw | UnsetType = UNSET
    kind: Kind = DEFAULT_KIND
    tasks: Annotated[int, Meta(ge=1, le=MAX_TASKS)] | list[ItemPayload] | UnsetType = UNSET
    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")] | UnsetType = UNSET
    callback_url: CallbackUrl | UnsetType = UNSET

    def hash(self, count: int | None = None) -> str:
        """Return the hash of what is asked for, apart from under which id."""
        tasks: Any = self.tasks
        asked = (_said(self.name), _said(self.content), self.kind, _said(tasks))
        return idempotency.payload_hash(*asked, count, callback_url=_said(self.callback_url))


class BatchPayload(Payload, frozen=True, forbid_unknown_fields=True, gc=False):
    """One object of a batch; `api.server.schemas.BatchItem` documents it."""

    idempotency_key: Annotated[str, Meta(min_length=1, max_length=idempotency.MAX_KEY_CHARS)] | UnsetType = UNSET


AnyPayload = TypeVar("AnyPayload", bound=Payload)


class Prepared(NamedTuple):
    """An object that is ready to be stored; `known`: the client chose the id, so another record may have been first."""

    object_id: str
    record: Record
    event: ObjectCreated
    known: bool


def decode_payload(data: bytes | msgspec.Raw, struct: type[AnyPayload]) -> AnyPayload:
    """Return what a JSON text asks for. Raises `NotJson`, `WrongFields` with all that is wrong."""
    try:
        payload = msgspec.json.decode(data, type=struct)
        # What skips a content looks at its brackets only.
        bytes(data).decode()
    except msgspec.ValidationError as error:
        # msgspec names the first error only.
        found = [_error(pointer, detail) for pointer, detail in wrong_fields(data, struct, DECODE_ERRORS)]
        raise WrongFields(found or [_error("", error)]) from None
    except RecursionError:
        raise WrongFields([_error("", f"it is nested deeper than {json_text.MAX_LEVELS} levels")]) from None
    except DECODE_ERRORS as error:
        raise NotJson(_words(bytes(data), error)) from None
    errors = [] if payload.content is UNSET else list(_content_errors(payload.content, "/content"))
    items = payload.tasks if isinstance(payload.tasks, list) else []
    for number, item in enumerate(items):
        errors += _content_errors(item.content, f"/tasks/{number}/content")
    if errors:
        raise WrongFields(errors)
    return _compact(payload)


def what_is_wrong(payload: Payload, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the fields that cannot be taken as they are, and why."""
    missing = _missing_content(payload, settings)
    if missing is not None:
        yield "content", missing
        return
    found = {
        "tasks": _wrong_tasks(payload, settings),
        "kind": _wrong_kind(payload.kind, settings),
        "callback_url": _wrong_callback(payload.callback_url, settings),
    }
    yield from ((field, wrong) for field, wrong in found.items() if wrong is not None)


def too_large(one: Prepared, settings: Settings) -> str | None:
    """Return why an object is too large for the topics, or for that many tasks; None if it is not."""
    event_bytes = len(one.record[2])
    if event_bytes > MAX_EVENT_BYTES:
        parts = "name and content" if one.event.items is UNSET else "name, content and items"
        return (
            f"{parts} make a record of {event_bytes} bytes; a topic takes {MAX_EVENT_BYTES}: send references instead "
            "of large contents, or several objects"
        )
    refusal = why_refused(one.event, event_bytes, settings.tasks_per_object, settings.max_tasks_per_object)
    return None if refusal is None else f"the object {refusal}"


def prepare(
    payload: Payload, object_id: str, settings: Settings, at_ms: int, payload_hash: str | UnsetType = UNSET
) -> Prepared:
    """Return the object and its record; with a `payload_hash` where the client chose the id."""
    items: Any = payload.tasks if isinstance(payload.tasks, list) else UNSET
    name, content = payload.name, payload.content
    if items is not UNSET and content is UNSET:
        content = json_text.NULL
    if not makes_objects_up(settings):
        name, content = _said(name) or "", json_text.NULL if content is UNSET else content
    elif name is UNSET or content is UNSET:
        made_up_name, made_up_content = generated.name_and_content(object_id)
        name = made_up_name if name is UNSET else name
        content = msgspec.Raw(encode(made_up_content)) if content is UNSET else content
    task_count = payload.tasks
    if task_count is UNSET and not splits_by_itself(settings, payload.kind):
        task_count = settings.tasks_per_object
    event = ObjectCreated(
        id=object_created_id(object_id),
        object_id=object_id,
        kind=payload.kind,
        task_count=task_count if isinstance(task_count, int) else None,
        name=name,
        content=content,
        at_ms=at_ms,
        payload_hash=payload_hash,
        items=items,
        callback_url=payload.callback_url,
    )
    key = object_id.encode()
    record = (partition_of(key, settings.partitions), key, encode(event))
    return Prepared(object_id, record, event, payload_hash is not UNSET)


def new_object_ids(count: int) -> list[str]:
    """Return random ids of 32 hexadecimal digits."""
    digits = os.urandom(_ID_BYTES * count).hex()
    return [digits[at : at + 2 * _ID_BYTES] for at in range(0, len(digits), 2 * _ID_BYTES)]


def _missing_content(payload: Payload, settings: Settings) -> str | None:
    says_something = (
        payload.name is not UNSET
        or payload.content is not UNSET
        or payload.kind != DEFAULT_KIND
        or isinstance(payload.tasks, list)
    )
    if says_something or makes_objects_up(settings):
        return None
    return (
        "The request is empty, and the API generates no objects because a project is set: send a content, a name or a "
        "kind, or set EBS_GENERATE=true for the API"
    )


def _wrong_kind(kind: str, settings: Settings) -> str | None:
    if kind == CALLBACK_KIND:
        return f"The kind {kind} is reserved for callbacks: name another kind"
    return why_unhandled(kind, handled_kinds(settings))


def _wrong_callback(url: str | UnsetType, settings: Settings) -> str | None:
    return None if url is UNSET else settings.allowed_webhook_hosts.why_refused(url)


def _wrong_tasks(payload: Payload, settings: Settings) -> str | None:
    """Return why an object cannot be split as asked, None if it can."""
    tasks = settings.tasks_per_object if payload.tasks is UNSET else payload.tasks
    if isinstance(tasks, list):
        return None if tasks else "The list of items is empty: send at least one item, or a number of tasks"
    most = settings.max_tasks_per_object
    return None if tasks <= most else f"Input should be less than or equal to {most} (EBS_MAX_TASKS_PER_OBJECT)"


def _compact(payload: AnyPayload) -> AnyPayload:
    """Return a payload whose contents have no line ends between their parts: records and answers are one line each."""
    changes: dict[str, Any] = {}
    if payload.content is not UNSET and not _is_text(payload.content):
        changes["content"] = json_text.compact(payload.content)
    if isinstance(payload.tasks, list):
        changes["tasks"] = [
            item if _is_text(item.content) else msgspec.structs.replace(item, content=json_text.compact(item.content))
            for item in payload.tasks
        ]
    return msgspec.structs.replace(payload, **changes) if changes else payload


def _is_text(content: msgspec.Raw) -> bool:
    return memoryview(content)[0] == ord('"')


def _content_errors(content: msgspec.Raw, pointer: str) -> Iterator[dict[str, str]]:
    try:
        json_text.check(content)
    except msgspec.DecodeError as error:
        yield {"detail": f"The content cannot be taken: {error}", "pointer": f"#{pointer}"}


def _error(pointer: str, error: object) -> dict[str, str]:
    """Return an error for people; msgspec says where in a value it is (`$[3].content`), we as JSON Pointer."""
    detail = str(error).replace(r"\\Z", "$")
    place = _PLACE.search(detail)
    if place is not None:
        pointer += "".join(f"/{index or name}" for index, name in _STEP.findall(place["path"]))
        detail = detail[: place.start()]
    return {"detail": detail, "pointer": f"#{pointer}"}


def _words(data: bytes, error: Exception) -> str:
    """Return what is wrong with a text that is not JSON; pydantic's reader says line and column."""
    try:
        pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as said:
        return str(said)
    return str(error)


def _said(value: Value | UnsetType) -> Value | None:
    return None if value is UNSET else value
