"""How an object becomes tasks, and how long its id is remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from app.errors import DecodeError
from app.events import SPLIT_SEQUENCE
from app.rules.delays import due_at_ms_of, why_object_not_due
from app.rules.new_tasks import NewTask, copied_bytes_of, owner_of, task_with_role, tasks_of, tasks_of_items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.events import ObjectCreated
    from app.rules.new_tasks import NewTasks

MAX_OBJECT_BYTES = 1_048_576
"""Largest record of `objects`, in bytes before compression. (The topic's own limit is for compressed bytes.)"""
MAX_EVENT_BYTES = 1_000_000
"""Of an object that we write: the broker takes 1,048,588 bytes a batch by default, and a task request wraps the same
content in more fields."""
MAX_COPIED_BYTES = 64 << 20
"""Of an object's name and content over all of its requests: they are sent in one transaction."""

_BUCKETS = 2
_BUCKET_BYTES = 6


def split(
    event: ObjectCreated,
    object_partition: int,
    *,
    record_bytes: int,
    default_task_count: int,
    max_task_count: int,
    at_ms: int,
    arrived_at_ms: int | None = None,
    splits: bool = False,
    joins: bool = False,
) -> NewTasks:
    """Return the first tasks of an object: its split, where its kind `splits`, else all.

    Raises `DecodeError` for an object that asks for more than `max_task_count` tasks, or is too large for that many.
    `record_bytes` is the length of its record's value. `arrived_at_ms` is when the broker took it, None if its record
    has a stamp of the producer alone.
    """
    refusal = why_refused(event, record_bytes, default_task_count, max_task_count)
    if refusal is not None:
        raise DecodeError(f"object {event.object_id} {refusal}")
    # Another program's clock may be ahead; a delay begins when the object arrived at the latest. The broker knows when
    # that was: with a clock of ours that was set back, every delay would begin, and so end, that much too early.
    latest_ms = at_ms if arrived_at_ms is None else arrived_at_ms
    submitted_ms = min(event.at_ms, latest_ms)
    refusal = why_object_not_due(event, latest_ms)
    if refusal is not None:
        raise DecodeError(f"object {event.object_id} {refusal}")
    due_at_ms = due_at_ms_of(event, submitted_ms)
    owner = owner_of(event, object_partition)
    if splits:
        return task_with_role(
            owner, SPLIT_SEQUENCE, event.content, at_ms=at_ms, name=event.name, due_at_ms=due_at_ms, key=event.key
        )
    if event.items is UNSET:
        wanted = [NewTask(event.name, event.content, due_at_ms, event.key)] * (event.task_count or default_task_count)
    else:
        wanted = tasks_of_items(event.items, event.name, submitted_ms, due_at_ms, event.key)
    return tasks_of(owner, wanted, joins=joins, at_ms=at_ms)


def why_refused(event: ObjectCreated, record_bytes: int, default_task_count: int, max_task_count: int) -> str | None:
    """Return why an object is never distributed, None if it is; `record_bytes` is the length of its record's value."""
    task_count = event.asked_tasks or default_task_count
    if record_bytes > MAX_OBJECT_BYTES:
        return (
            f"has {record_bytes} bytes, at most {MAX_OBJECT_BYTES} are allowed, compressed or not: send a reference "
            "instead of the content"
        )
    if task_count > max_task_count:
        return f"asks for {task_count} tasks, at most {max_task_count} are allowed (EBS_MAX_TASKS_PER_OBJECT)"
    if event.items is UNSET:
        copied_bytes = task_count * (len(event.name) + len(event.content))
        advice = "send a reference instead of the content, or ask for fewer tasks"
    else:
        copied_bytes = copied_bytes_of(tasks_of_items(event.items, event.name))
        advice = "give the items shorter names, or send fewer of them"
    if copied_bytes <= MAX_COPIED_BYTES:
        return None
    return (
        f"would be copied {task_count} times into {copied_bytes} bytes of requests, at most {MAX_COPIED_BYTES} are "
        f"allowed: {advice}"
    )


class SeenKeys:
    """Keys of the table of seen object ids: a coarse bucket of time, then the id.

    An id is looked for in all live buckets and written into the newest; a bucket is deleted as a whole once it is
    older than the retention. So ids expire by time without an index, at three cheap look-ups an object.
    """

    def __init__(self, retention_ms: int) -> None:
        self._bucket_ms = max(1, -(-retention_ms // _BUCKETS))

    def write_key(self, object_id: str, stream_time_ms: int) -> bytes:
        """Return the key to remember an id under."""
        return self._bucket(stream_time_ms) + object_id.encode()

    def look_up_keys(self, object_id: str, stream_time_ms: int) -> list[bytes]:
        """Return the keys under which an id may be remembered."""
        suffix = object_id.encode()
        newest = stream_time_ms // self._bucket_ms
        oldest = max(0, newest - _BUCKETS)
        return [bucket.to_bytes(_BUCKET_BYTES, "big") + suffix for bucket in range(newest, oldest - 1, -1)]

    @staticmethod
    def has_id(key: bytes) -> bool:
        """Return whether there is an id in a key, behind its bucket."""
        return len(key) > _BUCKET_BYTES

    def is_expired(self, key: bytes, stream_time_ms: int) -> bool:
        """Return whether the whole bucket of a key has expired."""
        return key[:_BUCKET_BYTES] < self._bucket(max(0, stream_time_ms - _BUCKETS * self._bucket_ms))

    def written_at_ms(self, key: bytes) -> int:
        """Return the earliest stream time at which a key can have been written."""
        return int.from_bytes(key[:_BUCKET_BYTES], "big") * self._bucket_ms

    def next_bucket_at_ms(self, stream_time_ms: int) -> int:
        """Return the stream time at which further keys may expire."""
        return (stream_time_ms // self._bucket_ms + 1) * self._bucket_ms

    def _bucket(self, at_ms: int) -> bytes:
        return (at_ms // self._bucket_ms).to_bytes(_BUCKET_BYTES, "big")


def expired_keys(keys: Iterator[bytes], seen: SeenKeys, stream_time_ms: int, limit: int) -> list[bytes]:
    """Return up to `limit` expired keys from the front of the ordered `keys`."""
    expired: list[bytes] = []
    for key in keys:
        if len(expired) >= limit or not seen.is_expired(key, stream_time_ms):
            break
        expired.append(key)
    return expired
