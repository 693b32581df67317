"""Checks a submitted object, and makes its OBJECT_CREATED record."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from api.submit import generated
from api.submit.decoding import WrongFields, decode_struct
from api.submit.schemas import DEFAULT_KIND, ObjectRequest, said
from app import json_text
from app.events import ObjectCreated, encode, object_created_id
from app.rules.delays import why_not_due
from app.rules.distribution import MAX_EVENT_BYTES, why_refused
from app.rules.kinds import why_unhandled
from app.rules.placement import partition_of
from app.settings.project import handled_kinds, makes_objects_up, splits_by_itself

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.submit.publisher import Record
    from app.settings.settings import Settings

_ID_BYTES = 16


AnyRequest = TypeVar("AnyRequest", bound=ObjectRequest)


class Prepared(NamedTuple):
    """An object that is ready to be stored; `known`: the client chose the id, so another record may have been first."""

    object_id: str
    record: Record
    event: ObjectCreated
    known: bool


def decode_payload(data: bytes | msgspec.Raw, struct: type[AnyRequest]) -> AnyRequest:
    """Return what a JSON text asks for. Raises `NotJson`, `WrongFields` with all that is wrong."""
    return compact_payload(decode_struct(data, struct))


def compact_payload(payload: AnyRequest) -> AnyRequest:
    """Return a payload whose contents take one line each. Raises `WrongFields` for contents that cannot be taken."""
    errors = [] if payload.content is UNSET else list(_content_errors(payload.content, "/content"))
    items = payload.tasks if isinstance(payload.tasks, list) else []
    for number, item in enumerate(items):
        errors += _content_errors(item.content, f"/tasks/{number}/content")
    if errors:
        raise WrongFields(errors)
    return _compact(payload)


def what_is_wrong(payload: ObjectRequest, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the fields that cannot be taken as they are, and why."""
    missing = _missing_content(payload, settings)
    if missing is not None:
        yield "content", missing
        return
    found = {
        "tasks": _wrong_tasks(payload, settings),
        "kind": why_unhandled(payload.kind, handled_kinds(settings)),
        "callback_url": _wrong_callback(payload.callback_url, settings),
    }
    yield from ((field, wrong) for field, wrong in found.items() if wrong is not None)
    yield from _wrong_starts(payload, time.time_ns() // 1_000_000)


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
    payload: ObjectRequest, object_id: str, settings: Settings, at_ms: int, payload_hash: str | UnsetType = UNSET
) -> Prepared:
    """Return the object and its record; with a `payload_hash` where the client chose the id."""
    items: Any = payload.tasks if isinstance(payload.tasks, list) else UNSET
    name, content = payload.name, payload.content
    if items is not UNSET and content is UNSET:
        content = json_text.NULL
    if not makes_objects_up(settings):
        name, content = said(name) or "", json_text.NULL if content is UNSET else content
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
        delay_s=payload.delay_s,
        due_at=payload.due_at,
        key=payload.key,
    )
    key = object_id.encode()
    record = (partition_of(key, settings.partitions), key, encode(event))
    return Prepared(object_id, record, event, payload_hash is not UNSET)


def new_object_ids(count: int) -> list[str]:
    """Return random ids of 32 hexadecimal digits."""
    digits = os.urandom(_ID_BYTES * count).hex()
    return [digits[at : at + 2 * _ID_BYTES] for at in range(0, len(digits), 2 * _ID_BYTES)]


def _missing_content(payload: ObjectRequest, settings: Settings) -> str | None:
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


def _wrong_callback(url: str | UnsetType, settings: Settings) -> str | None:
    return None if url is UNSET else settings.allowed_webhook_hosts.why_refused(url)


def _wrong_starts(payload: ObjectRequest, now_ms: int) -> Iterator[tuple[str, str]]:
    wrong = why_not_due(payload, now_ms)
    if wrong is not None:
        yield "due_at", wrong
    for number, item in enumerate(payload.tasks if isinstance(payload.tasks, list) else ()):
        wrong = why_not_due(item, now_ms)
        if wrong is not None:
            yield f"tasks/{number}/due_at", wrong


def _wrong_tasks(payload: ObjectRequest, settings: Settings) -> str | None:
    """Return why an object cannot be split as asked, None if it can."""
    tasks = settings.tasks_per_object if payload.tasks is UNSET else payload.tasks
    if isinstance(tasks, list):
        return None if tasks else "The list of items is empty: send at least one item, or a number of tasks"
    most = settings.max_tasks_per_object
    return None if tasks <= most else f"Input should be less than or equal to {most} (EBS_MAX_TASKS_PER_OBJECT)"


def _compact(payload: AnyRequest) -> AnyRequest:
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
