"""Submits that are safe to repeat: an object's id is a function of its key, so replicas agree without a lock.

What a client asked for has a hash, which travels in the object's record. It is of the request and not of the object
made from it: settings and made-up texts may change between two repetitions. The first record of an id is the object;
whoever has read its partition up to his own record knows whether that is his (`api.submit.known_ids`).
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
    """A key that cannot be used; `str()` of one is a sentence for people."""


def parse_key(values: Sequence[str]) -> str | None:
    """Return the key that the values of the header `Idempotency-Key` say, None if there are none. Raises `BadKey`."""
    if not values:
        return None
    text = values[0].strip()
    quoted, bare = _QUOTED.fullmatch(text), _BARE.fullmatch(text)
    if len(values) > 1 or (quoted is None and bare is None):
        raise BadKey('send one Idempotency-Key of printable ASCII in quotes, such as "8e03978e-40d5-43dd-bc93"')
    key = text if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
    return check_key(key)


def check_key(key: str) -> str:
    """Return the key itself. Raises `BadKey` for one that is empty or too long."""
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
) -> str:
    """Return the hash of what was asked for; None where nothing was said, `count` of many objects at once.

    Contents count by their value: two that differ in the order of keys or in blanks are the same; 1 and 1.0 differ.
    """
    asked = tasks if tasks is None or isinstance(tasks, int) else [_value_of(item) for item in tasks]
    value = None if content is None else json_text.decode(content)
    more: list[Any] = [] if callback_url is None else [callback_url]
    more += _start_of(delay_s, due_at)
    return _digest(json_text.encode_by_value((name, value, kind, asked, count, *more)), _PAYLOAD)


def _value_of(item: ItemRecord) -> list[Any]:
    name = None if item.name is msgspec.UNSET else item.name
    return [name, json_text.decode(item.content), *_start_of(item.delay_s or None, item.due_at or None)]


def _start_of(delay_s: float | None, due_at: datetime | None) -> list[dict[str, float]]:
    start = {"delay_s": delay_s, "due_at_s": None if due_at is None else due_at.timestamp()}
    said = {name: value for name, value in start.items() if value is not None}
    return [said] if said else []


def is_repetition(first: ObjectCreated, mine: ObjectCreated) -> bool:
    """Return whether a record asks for the same as the first one of its id.

    A record without a hash (its id was not the client's, as the one of a submit whose outcome was unknown) is compared
    by what it makes.
    """
    if first.payload_hash is msgspec.UNSET or mine.payload_hash is msgspec.UNSET:
        return _hash_of(first) == _hash_of(mine)
    return first.payload_hash == mine.payload_hash


def _hash_of(event: ObjectCreated) -> str:
    tasks = event.task_count if event.items is msgspec.UNSET else event.items
    url = None if event.callback_url is msgspec.UNSET else event.callback_url
    delay_s, due_at = event.delay_s or None, event.due_at or None
    return payload_hash(event.name, event.content, event.kind, tasks, callback_url=url, delay_s=delay_s, due_at=due_at)


def _digest(data: bytes, person: bytes) -> str:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, person=person).hexdigest()
