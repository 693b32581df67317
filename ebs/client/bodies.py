"""The objects that a client submits, and their JSON body: only this file knows its form."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from ebs.delays import why_no_start
from ebs.encoding import encode_json
from ebs.item import Item
from ebs.task import why_no_key

_OBJECT_ID = re.compile(r"[0-9a-f]{32}")
_ID_BYTES = 16
_MAX_KEY_CHARS = 255


class NewObject(msgspec.Struct, frozen=True):
    """An object to submit, with the fields that `submit` takes.

    With an `object_id` or an `idempotency_key` it is safe to submit it again.
    """

    kind: str
    content: Any = None
    tasks: int | Sequence[Any] | None = None
    name: str | None = None
    object_id: str | None = None
    idempotency_key: str | None = None
    callback_url: str | None = None
    delay_s: float | None = None
    due_at: datetime | None = None
    key: str | None = None


def new_object_id() -> str:
    """Return a random id: 32 hexadecimal digits."""
    return os.urandom(_ID_BYTES).hex()


def key_header(key: str | None) -> dict[str, str]:
    """Return the header of an idempotency key: a String of RFC 9651. Raises `ValueError` for what cannot be one."""
    if key is None:
        return {}
    if not (0 < len(key) <= _MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        raise ValueError(f"idempotency_key={key!r} is not 1 to {_MAX_KEY_CHARS} printable ASCII characters")
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return {"Idempotency-Key": f'"{escaped}"'}


def chosen_id(wanted: NewObject) -> str | None:
    """Return the id that an object is submitted with: its own or a new one; None if its key makes it.

    Raises `ValueError` for an object with both.
    """
    if wanted.idempotency_key is None:
        return new_object_id() if wanted.object_id is None else wanted.object_id
    if wanted.object_id is not None:
        raise ValueError("object_id and idempotency_key both choose the object's id: give one of them")
    return None


def body_of(wanted: NewObject, object_id: str | None, key: str | None = None) -> bytes:
    """Return the body of a submit, with the key in it where the API takes it there.

    Raises `TypeError` or `ValueError` if a value cannot be sent; the message names the fix.
    """
    if object_id is not None and not (isinstance(object_id, str) and _OBJECT_ID.fullmatch(object_id)):
        raise ValueError(
            f"object_id={object_id!r} is not 32 hexadecimal digits in lower case, such as uuid.uuid4().hex: for any "
            "other text use idempotency_key"
        )
    fields = {
        "kind": wanted.kind,
        "name": wanted.name,
        "content": wanted.content,
        "tasks": _tasks_of(wanted.tasks),
        "id": object_id,
        "idempotency_key": key,
        "callback_url": wanted.callback_url,
        "delay_s": wanted.delay_s,
        "due_at": wanted.due_at,
        "key": wanted.key,
    }
    wrong = why_no_start(wanted.delay_s, wanted.due_at, time.time()) or why_no_key(wanted.key)
    if wrong is not None:
        raise ValueError(wrong)
    try:
        return encode_json({name: value for name, value in fields.items() if value is not None})
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the object cannot be written as JSON: {error}") from error


def _tasks_of(tasks: Any) -> Any:
    if tasks is None or (isinstance(tasks, int) and not isinstance(tasks, bool)):
        return tasks
    if isinstance(tasks, str | bytes | dict | bool) or not hasattr(tasks, "__iter__"):
        raise TypeError(f"tasks is a number, or a list with the content of each task, not {tasks!r}")
    return [_task_of(one) for one in tasks]


def _task_of(one: Any) -> Item:
    if isinstance(one, Item):
        return one
    if isinstance(one, dict) and "content" in one and one.keys() <= {"content", "name", "delay_s", "due_at", "key"}:
        # As the HTTP API writes a task: taken for a content it would arrive in a wrapping that nobody meant.
        raise ValueError(
            f"{one!r} may be a content, or a task with one: write Item(content, name) for a task, and "
            f"Item({one!r}) for a content of this form"
        )
    return Item(one)
