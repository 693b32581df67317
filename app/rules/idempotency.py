"""Submits that are safe to repeat: an object's id is a function of its key, so replicas agree without a lock.

The object's record has a hash of the client's request. It is not a hash of the object, because settings and generated
texts may change between two repetitions. The first record of an id is the object: a process that has read the partition
up to its own record knows whether the first record is its own.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from app import json_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.events import ItemRecord, ObjectCreated

MAX_KEY_CHARS = 255
_DIGEST_BYTES = 16
_OBJECT, _ITEM, _PAYLOAD = b"ebs-object", b"ebs-batch-item", b"ebs-payload"
"""Personalisations: the same text hashed for another purpose gives another digest."""

# RFC 9651: a String is printable ASCII in quotes, with \" and \\ inside; parameters may follow.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"(?:\s*;.*)?')
# Most clients send the bare key, as payment services want it. A comma is what joins two headers into one.
_BARE = re.compile(r"[!#-+\--~]+")


class BadKey(ValueError):
    """A key that cannot be used; the message is a sentence for people."""


def parse_key(values: Sequence[str]) -> str | None:
    """Return the key from the values of the header `Idempotency-Key`, None without the header. Raises `BadKey`."""
    if not values:
        return None
    text = values[0].strip()
    quoted, bare = _QUOTED.fullmatch(text), _BARE.fullmatch(text)
    if len(values) > 1 or (quoted is None and bare is None):
        raise BadKey('send one Idempotency-Key of printable ASCII in quotes, such as "8e03978e-40d5-43dd-bc93"')
    key = text if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
    return check_key(key)


def check_key(key: str) -> str:
    """Return the key itself. Raises `BadKey` if it is empty or too long."""
    if not 0 < len(key) <= MAX_KEY_CHARS:
        raise BadKey(f"an idempotency key has 1 to {MAX_KEY_CHARS} characters, this one has {len(key)}")
    return key


def object_id_of(key: str) -> str:
    """Return the id (32 hexadecimal digits) of the object that is submitted with this key."""
    return _digest(key.encode(), _OBJECT)


def object_id_of_item(key: str, index: int) -> str:
    """Return the id of one of many objects that are submitted with one key; `index` is from 0."""
    return _digest(b"%d:%b" % (index, key.encode()), _ITEM)


def payload_hash(
    name: str | None,
    content: msgspec.Raw | None,
    kind: str,
    tasks: int | Sequence[ItemRecord] | None,
    count: int | None = None,
    *,
    callback_url: str | None = None,
    delay_s: float | None = None,
    due_at: datetime | None = None,
    key: str | None = None,
) -> str:
    """Return the hash of a request; None stands for a field that was left out, `count` is for many objects at once.

    Contents are compared by value: the order of keys and blanks do not matter; 1 and 1.0 differ.
    """
    asked = tasks if tasks is None or isinstance(tasks, int) else [_value_of(item) for item in tasks]
    value = None if content is None else json_text.decode(content)
    more: list[Any] = [] if callback_url is None else [callback_url]
    more += _more_of(delay_s, due_at, key)
    return _digest(json_text.encode_by_value((name, value, kind, asked, count, *more)), _PAYLOAD)


def _value_of(item: ItemRecord) -> list[Any]:
    name = None if item.name is msgspec.UNSET else item.name
    return [
        name,
        json_text.decode(item.content),
        *_more_of(item.delay_s or None, item.due_at or None, item.key or None),
    ]


def _more_of(delay_s: float | None, due_at: datetime | None, key: str | None) -> list[dict[str, Any]]:
    more = {"delay_s": delay_s, "due_at_s": None if due_at is None else due_at.timestamp(), "key": key}
    said = {name: value for name, value in more.items() if value is not None}
    return [said] if said else []


def is_repetition(first: ObjectCreated, mine: ObjectCreated) -> bool:
    """Return whether a record has the same request as the first record of its id.

    If a record has no hash (its id was not chosen by the client, for example after a 503), the objects are compared.
    """
    if first.payload_hash is msgspec.UNSET or mine.payload_hash is msgspec.UNSET:
        return _hash_of(first) == _hash_of(mine)
    return first.payload_hash == mine.payload_hash


def _hash_of(event: ObjectCreated) -> str:
    tasks = event.task_count if event.items is msgspec.UNSET else event.items
    url = None if event.callback_url is msgspec.UNSET else event.callback_url
    more: dict[str, Any] = {"delay_s": event.delay_s or None, "due_at": event.due_at or None, "key": event.key or None}
    return payload_hash(event.name, event.content, event.kind, tasks, callback_url=url, **more)


def _digest(data: bytes, person: bytes) -> str:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, person=person).hexdigest()
