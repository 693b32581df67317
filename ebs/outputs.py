"""What an attempt produces beside its result: objects that it submits, records that it sends. They count if it does.

A `Context` gathers them here, without Kafka: the engine commits them with the attempt's TASK_FINISHED, and leaves them
out with an attempt that fails.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from ebs.delays import why_no_start
from ebs.encoding import encode_json
from ebs.errors import Reject
from ebs.pieces import is_list_like, pieces_of
from ebs.task import KIND, KIND_IN_WORDS, why_no_key

if TYPE_CHECKING:
    from ebs.task import Task

MAX_OUTPUTS = 10_000
"""Of one attempt."""
MAX_OUTPUT_BYTES = 16 << 20
"""Of all outputs of one attempt: they are sent in one transaction."""
MAX_ID_CHARS = 200

_DIGEST_BYTES = 16
_SUBMIT = b"ebs-submit"
"""Personalisation: the same text hashed for another purpose gives another digest."""


class SubmittedObject(msgspec.Struct, frozen=True):
    """An object that a function submits; `content` is JSON, and so is `items`, a list with an item for each task.

    `depth` counts the objects above it, which submitted one another. Its ends are sent to `callback_url`, if any.
    """

    id: str
    kind: str
    name: str
    content: bytes
    tasks: int | None = None
    items: bytes | None = None
    depth: int = 1
    callback_url: str | None = None
    delay_s: float | None = None
    due_at: datetime | None = None
    key: str | None = None

    @property
    def size_bytes(self) -> int:
        """How much it counts."""
        texts = (self.content, self.items or b"", self.name, self.id, self.callback_url or "")
        return sum(map(len, texts))


class SentRecord(msgspec.Struct, frozen=True):
    """A record that a function sends to a topic of the user's; a `value` of None is a tombstone."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = []

    @property
    def size_bytes(self) -> int:
        """How much it counts."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.topic) + len(self.key or b"") + len(self.value or b"") + headers


class OutputRules(msgspec.Struct, frozen=True):
    """What functions may produce: anything, for a context that is made by hand. Workers have rules of their own."""

    def why_not_submitted(self, _new: SubmittedObject, /) -> str | None:
        """Return why an object cannot be submitted and what to change, None if it can."""
        return None

    def why_not_sent(self, _topic: str, /) -> str | None:
        """Return why no record can be sent to a topic and what to change, None if it can."""
        return None


class Outputs(msgspec.Struct):
    """What one attempt has produced until now, in the order of its calls; nothing can be added once it is closed."""

    objects: list[SubmittedObject] = []
    records: list[SentRecord] = []
    size_bytes: int = 0
    is_closed: bool = False

    def submit(self, new: SubmittedObject) -> None:
        """Add an object; raises `Reject` if it is one too many."""
        self._count("context.submit", new.size_bytes)
        self.objects.append(new)

    def send(self, record: SentRecord) -> None:
        """Add a record; raises `Reject` if it is one too many."""
        self._count("context.send", record.size_bytes)
        self.records.append(record)

    def _count(self, call: str, size_bytes: int) -> None:
        if self.is_closed:
            raise Reject(
                f"{call} was called after the function had returned, so it would have no effect: await what the "
                "function starts before it returns"
            )
        if len(self.objects) + len(self.records) >= MAX_OUTPUTS:
            raise Reject(
                f"{call}: one attempt may produce at most {MAX_OUTPUTS:,} objects and records: let several tasks "
                "produce them, such as those of a split"
            )
        if self.size_bytes + size_bytes > MAX_OUTPUT_BYTES:
            raise Reject(
                f"{call}: the outputs of one attempt may have at most {MAX_OUTPUT_BYTES:,} bytes: produce references "
                "instead of the data, or let several tasks produce them"
            )
        self.size_bytes += size_bytes


CLOSED = Outputs(is_closed=True)
"""Of an attempt that has returned."""


def new_object(
    task: Task,
    before: Outputs,
    *,
    kind: Any,
    content: Any,
    tasks: Any,
    name: Any,
    object_id: Any,
    callback_url: Any,
    delay_s: Any,
    due_at: Any,
    key: Any,
    rules: OutputRules,
) -> SubmittedObject:
    """Return the object that a task submits with its next call; raises `Reject` for what cannot be submitted."""
    if not isinstance(kind, str) or not KIND.fullmatch(kind):
        raise Reject(
            f"context.submit: {kind!r} is not a kind: a kind is {KIND_IN_WORDS} and the first argument, as in "
            "context.submit('invoice', {'total': 3})"
        )
    count, items = _tasks_of(tasks)
    new = SubmittedObject(
        _id_of(task.task_id, len(before.objects)) if object_id is None else _checked_id(object_id),
        kind,
        "" if name is None else _checked_name(name),
        _json_of(content, "context.submit: the content"),
        count,
        items,
        depth_of(task) + 1,
        None if callback_url is None else _checked_url(callback_url),
        delay_s,
        due_at,
        key,
    )
    wrong = why_no_start(delay_s, due_at, time.time()) or why_no_key(key)
    if wrong is not None:
        raise Reject(f"context.submit: {wrong}")
    reason = rules.why_not_submitted(new)
    if reason is not None:
        raise Reject(f"context.submit: {reason}")
    return new


def new_record(topic: Any, key: Any, value: Any, headers: Any, rules: OutputRules) -> SentRecord:
    """Return the record that a task sends with a call; raises `Reject` for what cannot be sent."""
    if not isinstance(topic, str):
        raise Reject(
            f"context.send: the first argument is the topic, as in context.send('sales', key, value), not {topic!r}"
        )
    reason = rules.why_not_sent(topic)
    if reason is not None:
        raise Reject(f"context.send: {reason}")
    if key is not None and not isinstance(key, str | bytes):
        raise Reject(f"context.send: key={key!r} is a {type(key).__name__}: a key is text, bytes or None")
    return SentRecord(topic, _bytes_of("key", key), _bytes_of("value", value), _headers_of(headers))


def depth_of(task: Task) -> int:
    """Return how many objects above the task's own submitted one another."""
    return 0 if task.depth is msgspec.UNSET else task.depth


def _id_of(task_id: str, number: int) -> str:
    """Return the id of an attempt's object, by the number of its call (from 0): a second run makes the same one."""
    return hashlib.blake2b(b"%d:%b" % (number, task_id.encode()), digest_size=_DIGEST_BYTES, person=_SUBMIT).hexdigest()


def _checked_id(object_id: Any) -> str:
    if not isinstance(object_id, str) or not 0 < len(object_id) <= MAX_ID_CHARS or not _is_text(object_id):
        raise Reject(f"context.submit: id={object_id!r} is not a text of 1 to {MAX_ID_CHARS} characters")
    return object_id


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not _is_text(name):
        raise Reject(f"context.submit: name={name!r} is not a text")
    return name


def _checked_url(url: Any) -> str:
    if not isinstance(url, str) or not _is_text(url):
        raise Reject(f"context.submit: callback_url={url!r} is not a text")
    return url


def _is_text(text: str) -> bool:
    """Return whether a text can be written: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_of(value: Any, what: str) -> bytes:
    try:
        return encode_json(value)
    except Exception as error:
        raise Reject(f"{what}, of type {type(value).__name__}, is not JSON: {error}") from error


def _bytes_of(what: str, value: Any) -> bytes | None:
    """Return bytes as they are, text as UTF-8, None as None, and all else as JSON."""
    if value is None:
        return None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        if not _is_text(value):
            raise Reject(f"context.send: {what}={value!r} cannot be written as UTF-8: send bytes")
        return value.encode()
    return _json_of(value, f"context.send: the {what}")


def _headers_of(headers: Any) -> list[tuple[str, bytes]]:
    if headers is None:
        return []
    if isinstance(headers, Mapping):
        headers = headers.items()
    pairs = list(headers) if is_list_like(headers) else [headers]
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str) and _is_text(pair[0])):
            raise Reject(f"context.send: {pair!r} is not a header: give a dict, or a list of pairs of name and value")
        if not isinstance(pair[1], str | bytes):
            raise Reject(f"context.send: the header {pair[0]} is a {type(pair[1]).__name__}: give text or bytes")
    return [(name, _bytes_of(f"header {name}", value) or b"") for name, value in pairs]


def _tasks_of(tasks: Any) -> tuple[int | None, bytes | None]:
    """Return the number of tasks, or the items as JSON; neither if nothing was said."""
    if tasks is None:
        return None, None
    if isinstance(tasks, int) and not isinstance(tasks, bool):
        if tasks < 1:
            raise Reject(f"context.submit: tasks={tasks}: an object has at least one task")
        return tasks, None
    if not is_list_like(tasks):
        raise Reject(
            f"context.submit: tasks={tasks!r} is a {type(tasks).__name__}: give a number, or a list with the content "
            "of each task"
        )
    items = bytes(pieces_of(tasks, "the tasks given to context.submit"))
    if items == b"[]":
        raise Reject("context.submit: tasks is an empty list: give at least one item, or a number of tasks")
    return None, items
