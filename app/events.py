"""The events on the topics: JSON objects with a `type`.

Frozen msgspec structs, one for each type; the order of the fields is their order in the JSON. Times (`at_ms`) are
UTC epoch milliseconds, durations (`wait_ms`, `spent_ms`) milliseconds. Unknown fields are ignored, so a newer writer
does not break an older reader; a missing required field, or a value out of range, raises `DecodeError`.

Event ids are functions of what happened, never random: a replay after a crash writes the same id again.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta

from app import json_text
from app.errors import DecodeError
from ebs.delays import MAX_DELAY_S
from ebs.task import CALLBACK_KIND as CALLBACK_KIND  # noqa: PLC0414  # where the other names of events are
from ebs.task import MAX_KEY_CHARS, Task

if TYPE_CHECKING:
    from collections.abc import Callable

ObjectId = Annotated[str, Meta(min_length=1, max_length=200)]
TaskId = Annotated[str, Meta(min_length=1, max_length=220)]
MAX_RESULT_BYTES = 1_048_576
"""Of a task's result as JSON: EBS_MAX_RESULT_BYTES cannot be set higher, and rows have room for no more."""
Kind = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+\Z")]
# Of a request and of all events of its task: bounded, as it stands in the keys of rows. The record of its object was
# checked for the pattern.
TaskKind = Annotated[str, Meta(min_length=1, max_length=64)]
MAX_TASKS = 10_000
"""Of one object, as the events can hold them; the setting `EBS_MAX_TASKS_PER_OBJECT` may be lower."""
SPLIT_SEQUENCE, JOIN_SEQUENCE = MAX_TASKS, MAX_TASKS + 1
"""Sequences of the two tasks that an object may have beside those that it is split into; their ids end with a word."""
CALLBACK_SEQUENCE = MAX_TASKS + 2
"""Sequence of the callback of an object's first end; that of the second end has the next one, and so on."""
MAX_SEQUENCE = CALLBACK_SEQUENCE + 3 * (MAX_TASKS + 2)
"""Each end after the first one needs a redrive, and each task of an object can be redriven 3 times."""
MAX_URL_CHARS = 2_048
MAX_INSTANT_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: dates end there."""
Instant = Annotated[int, Meta(ge=0, le=MAX_INSTANT_MS)]
# What has no limit here would overflow the tables' 64 bits, and one record would stop a worker for good.
Duration = Annotated[int, Meta(ge=0, le=MAX_INSTANT_MS)]
Ordinal = Annotated[int, Meta(ge=0, lt=1_000)]
Sequence = Annotated[int, Meta(ge=0, le=MAX_SEQUENCE)]
TaskCount = Annotated[int, Meta(ge=1, le=MAX_TASKS)]
TaskCountOrNone = Annotated[int, Meta(ge=0, le=MAX_TASKS)]
Role = Literal["split", "join", "callback"]
DelayS = Annotated[float, Meta(ge=0, le=MAX_DELAY_S)]
DueAt = Annotated[datetime, Meta(tz=True)]
Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARS)]
CallbackUrl = Annotated[str, Meta(min_length=1, max_length=MAX_URL_CHARS)]
Attempt = Annotated[int, Meta(ge=1, le=16)]
Redrive = Annotated[int, Meta(ge=0, le=3)]
MAX_DEPTH = 1_000_000
"""Of objects that submit one another, as the events can hold it; the setting `EBS_MAX_DEPTH` may be lower."""
Depth = Annotated[int, Meta(ge=1, le=MAX_DEPTH)]


class ItemRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one task of an object is about: any JSON value, and a name (default: that of the object).

    It starts `delay_s` after its object was submitted or its split has finished, or at `due_at`; default: with its
    object. Its `key` is whose work it is, such as a customer; default: that of the object.
    """

    name: str | msgspec.UnsetType = msgspec.UNSET
    # Made by a function: msgspec writes no schema of a struct whose default is JSON as it was written.
    content: msgspec.Raw = msgspec.field(default_factory=lambda: json_text.NULL)
    delay_s: DelayS | msgspec.UnsetType = msgspec.UNSET
    due_at: DueAt | msgspec.UnsetType = msgspec.UNSET
    key: Key | msgspec.UnsetType = msgspec.UNSET


class Parent(msgspec.Struct, frozen=True, gc=False):
    """The task of another object that submitted an object."""

    object_id: ObjectId
    task_id: TaskId


class AboutObject(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The fields of an object that its end event needs: its name (at most 500 characters), parent and callback URL."""

    name: str = ""
    parent: Parent | None = None
    depth: Annotated[int, Meta(ge=0, le=MAX_DEPTH)] = 0
    callback_url: Annotated[str, Meta(max_length=MAX_URL_CHARS)] = ""


class ObjectCreated(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="OBJECT_CREATED"):
    """An object was submitted. An outside producer may leave out `id`, `kind`, `task_count` and `content`.

    `content` is any JSON value: the same for each of `task_count` tasks. With `items` instead of `task_count` each item
    is one task, with a content of its own. `payload_hash` is there where the client chose the id: what it asked for
    (`app.rules.idempotency`). `parent` and `depth` are there where a task of another object submitted it: `depth`
    counts the objects above it. Its split, or its tasks, start `delay_s` after `at_ms`, or at `due_at`. Its `key` is
    whose work it is, such as a customer: a limit by key (`per_key`) counts its tasks with it.
    """

    id: str = ""
    object_id: ObjectId
    kind: Kind = "default"
    task_count: TaskCount | None = None
    name: str
    content: msgspec.Raw = json_text.NULL
    at_ms: Instant
    payload_hash: str | msgspec.UnsetType = msgspec.UNSET
    items: Annotated[list[ItemRecord], Meta(min_length=1, max_length=MAX_TASKS)] | msgspec.UnsetType = msgspec.UNSET
    callback_url: CallbackUrl | msgspec.UnsetType = msgspec.UNSET
    parent: Parent | msgspec.UnsetType = msgspec.UNSET
    depth: Depth | msgspec.UnsetType = msgspec.UNSET
    delay_s: DelayS | msgspec.UnsetType = msgspec.UNSET
    due_at: DueAt | msgspec.UnsetType = msgspec.UNSET
    key: Key | msgspec.UnsetType = msgspec.UNSET

    @property
    def asked_tasks(self) -> int | None:
        """Number of tasks that the object asks for; None: the setting decides."""
        return self.task_count if self.items is msgspec.UNSET else len(self.items)


class TaskCreated(Task, frozen=True, gc=False, tag_field="type", tag="TASK_CREATED"):
    """The request for a task, on `task-requests`: the fields of the handler's `Task`, and notes of retries.

    Its content is decoded where the handler runs: nothing before that looks into it. One with a `refusal` cannot be
    worked, and why. The attempt starts at `due_at_ms` at the earliest, the first one at `starts_at_ms`.
    """

    id: str
    object_id: ObjectId
    task_id: TaskId
    object_partition: Ordinal
    kind: TaskKind
    sequence: Sequence
    task_count: TaskCount
    attempt: Attempt
    at_ms: Instant
    name: str | msgspec.UnsetType = msgspec.UNSET
    content: msgspec.Raw = json_text.NULL
    redrive: Redrive | msgspec.UnsetType = msgspec.UNSET
    depth: Depth | msgspec.UnsetType = msgspec.UNSET
    key: Key | msgspec.UnsetType = msgspec.UNSET
    role: Role | msgspec.UnsetType = msgspec.UNSET
    due_at_ms: Instant | msgspec.UnsetType = msgspec.UNSET
    first_failed_at_ms: Instant | msgspec.UnsetType = msgspec.UNSET
    first_error: str | msgspec.UnsetType = msgspec.UNSET
    refusal: str | msgspec.UnsetType = msgspec.UNSET
    starts_at_ms: Instant | msgspec.UnsetType = msgspec.UNSET


class TasksCreated(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="TASKS_CREATED"):
    """Tasks of an object exist: `count` of them, from the sequence `first` on. A redrive makes one of them again.

    Those of a `role` are no part of `task_count`, which is 0 if the object was split into nothing. `joins`: when all
    tasks have finished, their results are joined. `about`: of the first tasks, what their object is.
    """

    id: str
    object_id: ObjectId
    object_partition: Ordinal
    kind: TaskKind
    first: Sequence
    count: TaskCountOrNone
    task_count: TaskCountOrNone
    at_ms: Instant
    redrive: Redrive | msgspec.UnsetType = msgspec.UNSET
    role: Role | msgspec.UnsetType = msgspec.UNSET
    joins: bool | msgspec.UnsetType = msgspec.UNSET
    about: AboutObject | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """Refuse tasks that the object does not have; a decoder makes a `DecodeError` of it."""
        if self.first + self.count > self.task_count and not (self.first >= MAX_TASKS and self.count == 1):
            raise ValueError(f"tasks {self.first} to {self.first + self.count - 1} of {self.task_count} tasks")


class TaskStarted(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="TASK_STARTED"):
    """A handler started. `wait_ms` is how long the task had waited since it was due.

    `starts_at_ms` is when a delayed task could start at the earliest; UNSET: it was not delayed.
    """

    id: str
    object_id: ObjectId
    task_id: TaskId
    object_partition: Ordinal
    kind: TaskKind
    sequence: Sequence
    task_count: TaskCount
    attempt: Attempt
    at_ms: Instant
    worker: str
    wait_ms: Duration
    redrive: Redrive | msgspec.UnsetType = msgspec.UNSET
    role: Role | msgspec.UnsetType = msgspec.UNSET
    starts_at_ms: Instant | msgspec.UnsetType = msgspec.UNSET


class TaskFinished(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="TASK_FINISHED"):
    """A handler returned. `spent_ms` is how long it ran."""

    id: str
    object_id: ObjectId
    task_id: TaskId
    object_partition: Ordinal
    kind: TaskKind
    sequence: Sequence
    task_count: TaskCount
    attempt: Attempt
    at_ms: Instant
    worker: str
    wait_ms: Duration
    spent_ms: Duration
    result: msgspec.Raw = msgspec.Raw(b"null")
    redrive: Redrive | msgspec.UnsetType = msgspec.UNSET
    role: Role | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """Refuse a result that no row has room for; a decoder makes a `DecodeError` of it."""
        if len(self.result) > MAX_RESULT_BYTES:
            raise ValueError(f"the result has {len(self.result)} bytes of JSON, at most {MAX_RESULT_BYTES} are kept")


class _Failure(msgspec.Struct, frozen=True, gc=False, tag_field="type"):
    id: str
    object_id: ObjectId
    task_id: TaskId
    object_partition: Ordinal
    kind: TaskKind
    sequence: Sequence
    task_count: TaskCount
    attempt: Attempt
    at_ms: Instant
    worker: str
    wait_ms: Duration
    spent_ms: Duration
    error: str
    redrive: Redrive | msgspec.UnsetType = msgspec.UNSET
    error_type: str = ""
    fingerprint: str = ""
    role: Role | msgspec.UnsetType = msgspec.UNSET


class TaskFailed(_Failure, frozen=True, gc=False, tag="TASK_FAILED"):
    """One attempt failed; `error` says why. TASK_RETRIED or TASK_DEAD follows.

    `stack_trace` is the end of it, bounded (`app.rules.dead_letters.MAX_EVENT_STACK_BYTES`).
    """

    stack_trace: str = ""


class TaskRetried(_Failure, frozen=True, gc=False, tag="TASK_RETRIED"):
    """A failed task waits for its next attempt, which is due at `due_at_ms`."""

    due_at_ms: Instant | msgspec.UnsetType = msgspec.UNSET


class TaskDead(_Failure, frozen=True, gc=False, tag="TASK_DEAD"):
    """A task is dead: its request is on `dead-letters`."""


class TaskCancelled(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="TASK_CANCELLED"):
    """A task was cancelled before it finished."""

    id: str
    object_id: ObjectId
    task_id: TaskId
    object_partition: Ordinal
    kind: TaskKind
    sequence: Sequence
    task_count: TaskCount
    attempt: Attempt
    at_ms: Instant
    redrive: Redrive | msgspec.UnsetType = msgspec.UNSET
    role: Role | msgspec.UnsetType = msgspec.UNSET


OneTaskEvent = TaskStarted | TaskFinished | TaskFailed | TaskRetried | TaskDead | TaskCancelled
TaskEvent = TasksCreated | OneTaskEvent


class _OtherType(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="-"):
    """What no record is. msgspec takes an object without `type` unless there are two types to choose from."""

    never: Annotated[int, Meta(ge=1, le=0)]


class _ObjectEnded(msgspec.Struct, frozen=True, gc=False, tag_field="type"):
    """An object has ended; times in epoch ms. `tasks_*` count by where its tasks ended, split and join not included.

    Of a `name` the first 500 characters are here. `parent` is the task that submitted it, null if none did.
    """

    id: str
    object_id: ObjectId
    kind: TaskKind
    at_ms: Instant
    created_at_ms: Instant | None
    tasks_total: TaskCountOrNone
    tasks_finished: TaskCountOrNone
    tasks_dead: TaskCountOrNone
    tasks_cancelled: TaskCountOrNone
    end: int
    """Which end of the object this is, from 1: a redrive lets it end again."""
    result: msgspec.Raw = msgspec.Raw(b"null")
    name: str = ""
    parent: Parent | None = None


class FinishedObject(_ObjectEnded, frozen=True, gc=False, tag="OBJECT_FINISHED"):
    """All tasks have finished, and the join if there is one: its result is here."""


class FailedObject(_ObjectEnded, frozen=True, gc=False, tag="OBJECT_FAILED"):
    """A task, the split or the join is dead; a redrive can still finish it."""


class CancelledObject(_ObjectEnded, frozen=True, gc=False, tag="OBJECT_CANCELLED"):
    """Tasks were cancelled, and none is dead."""


ObjectEnd = FinishedObject | FailedObject | CancelledObject

encode = msgspec.json.Encoder().encode
"""Turn an event into the JSON bytes that go onto a topic."""

_decode_object: Any = msgspec.json.Decoder(ObjectCreated | _OtherType).decode
decode_task_request = cast("Callable[[bytes], TaskCreated]", msgspec.json.Decoder(TaskCreated | _OtherType).decode)
"""Turn bytes of `task-requests` into `TaskCreated`; raises as `decode_object`. The content may be no JSON still."""
decode_object_end = msgspec.json.Decoder(ObjectEnd).decode
"""The same for `object-events`."""
decode_task_event = msgspec.json.Decoder(TaskEvent).decode
"""The same for `task-events`."""


def decode_object(value: bytes) -> ObjectCreated:
    """Turn bytes of `objects` into `ObjectCreated`; raises what `DECODE_ERRORS` lists, for `explain_decode_error`.

    All who read objects refuse the same ones: those too whose content no handler could read.
    """
    event: ObjectCreated = _decode_object(value)
    _check_content(event.content, "content")
    if event.items is not msgspec.UNSET:
        if event.task_count is not None:
            raise msgspec.ValidationError("it has items and task_count: give one of them - at `$.task_count`")
        for number, item in enumerate(event.items):
            _check_content(item.content, f"items[{number}].content")
    return event


def _check_content(content: msgspec.Raw, place: str) -> None:
    try:
        json_text.check(content)
    except msgspec.DecodeError as error:
        raise msgspec.ValidationError(f"{error} - at `$.{place}`") from None


DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError)
"""What the decoders raise on bytes that are no event; TypeError is a value of None, a tombstone."""


def explain_decode_error(topic: str, error: Exception) -> DecodeError:
    """Word a decoder's exception for the dead letter's headers and for the log."""
    reason = str(error)
    if isinstance(error, TypeError):
        reason = "the value is empty (a tombstone)"
    elif isinstance(error, RecursionError):
        reason = "the value is nested too deeply"
    return DecodeError(f"not a valid record of {topic}: {reason}")


def object_created_id(object_id: str) -> str:
    """Return the id of an object's OBJECT_CREATED event."""
    return f"o-{object_id}"


def redrive_of(event: TaskCreated | TaskEvent) -> int:
    """Return how often the task of an event had been redriven: its generation."""
    return 0 if event.redrive is msgspec.UNSET else event.redrive


def tasks_created_id(object_id: str) -> str:
    """Return the id of the TASKS_CREATED event of all tasks of an object; a redrive's has the id of its request."""
    return f"c-{object_id}"


def role_of(sequence: int) -> Role | msgspec.UnsetType:
    """Return the role of an object's task, UNSET of those that it was split into."""
    return "callback" if sequence >= CALLBACK_SEQUENCE else _ROLES.get(sequence, msgspec.UNSET)


def task_id_of(object_id: str, sequence: int) -> str:
    """Return the id of an object's task; `sequence` counts from 0."""
    if sequence >= CALLBACK_SEQUENCE:
        return f"{object_id}-callback{sequence - CALLBACK_SEQUENCE + 1}"
    return f"{object_id}-{_ROLES.get(sequence, sequence)}"


def parse_task_id(task_id: str) -> tuple[str, int] | None:
    """Undo `task_id_of`; None for any other text."""
    match = _TASK_ID.fullmatch(task_id)
    if match is None:
        return None
    object_id, name, end = match.groups()
    return object_id, CALLBACK_SEQUENCE + int(end) - 1 if end else _SEQUENCES.get(name) or int(name)


_ROLES: dict[int, Role] = {SPLIT_SEQUENCE: "split", JOIN_SEQUENCE: "join"}
_SEQUENCES: dict[str, int] = {role: sequence for sequence, role in _ROLES.items()}
_TASK_ID = re.compile(r"(.+)-(0|[1-9]\d{0,8}|split|join|callback([1-9]\d{0,4}))", re.ASCII | re.DOTALL)
