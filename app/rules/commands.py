"""The records of `control`: the commands of operators, and their keys.

The topic is compacted: the last record of each key is in force, and a tombstone undoes it. So a key names what the
command is about (`pause`, `pause:<kind>`, `rate:<kind>`, `limit:<kind>`, `concurrency`, `concurrency:<worker>`,
`drain:<worker>`, `cancel:object:<object id>`, `cancel:task:<task id>`, `cancel:filter:<name>`,
`cancel:waiting:<filter>`, `start:task:<task id>`, `start:waiting:<filter>`, `session:<name>`), and a repeated command
changes nothing.
Values are JSON with a `type`; unknown fields are ignored, times are UTC epoch milliseconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, NamedTuple
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.events import Instant, Kind, ObjectId, Ordinal, TaskId
from app.rules.waiting_rows import is_key
from ebs.function import MAX_LIMIT, MAX_PER_S

MAX_CONCURRENCY = 2_000
"""As `EBS_CONCURRENCY`."""

WaitReason = Annotated[str, Meta(min_length=1, max_length=100)]
PerS = Annotated[float, Meta(gt=0, le=MAX_PER_S)]
Concurrency = Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)]
Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]


class BadCommand(Exception):
    """A record of `control` that says nothing we know; `str()` of one says why."""


class Pause(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="PAUSE"):
    """Start no tasks of any kind, or of one kind. `breaker` is the worker whose breaker paused the kind, if one did."""

    at_ms: Instant = 0
    reason: str = ""
    breaker: str | UnsetType = UNSET


class LimitRate(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="RATE"):
    """Start at most `per_s` tasks of a kind per second in the whole system."""

    kind: Kind
    per_s: PerS
    at_ms: Instant = 0


class LimitKind(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="LIMIT"):
    """Run at most `concurrency` tasks of a kind at once in the whole system, and `per_key` of each key."""

    kind: Kind
    concurrency: Limit | UnsetType = UNSET
    per_key: Limit | UnsetType = UNSET
    at_ms: Instant = 0


class SetConcurrency(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="CONCURRENCY"):
    """Run at most `count` tasks at once, on each worker or on one worker. This overrides `EBS_CONCURRENCY`."""

    count: Concurrency
    at_ms: Instant = 0


class Cancel(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="CANCEL"):
    """Cancel an object's tasks, one task, or all tasks of a kind (or of all kinds) created before an instant."""

    object_id: ObjectId | UnsetType = UNSET
    task_id: TaskId | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET
    created_before_ms: Instant | UnsetType = UNSET
    at_ms: Instant = 0
    reason: str = ""


class StartTask(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="START"):
    """Let one waiting task be due now: the one of this row (its key in the table `waiting`) of a partition.

    The key says when the attempt was due, so the command means this wait alone, and no later one of the task.
    """

    task_id: TaskId
    partition: Ordinal
    row: bytes
    at_ms: Instant


class StartWaiting(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="START_WAITING"):
    """Let be due now what waits for its time and began to wait before `at_ms`; a field that is left out: whatever."""

    at_ms: Instant
    kind: Kind | UnsetType = UNSET
    reason: WaitReason | UnsetType = UNSET
    object_id: ObjectId | UnsetType = UNSET


class CancelWaiting(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="CANCEL_WAITING"):
    """Cancel what waits in the table `waiting` and began to wait before `at_ms`; a field left out: whatever."""

    at_ms: Instant
    kind: Kind | UnsetType = UNSET
    reason: WaitReason | UnsetType = UNSET
    object_id: ObjectId | UnsetType = UNSET


class Drain(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="DRAIN"):
    """One worker starts no more tasks until the command is undone. A restart of the worker does not undo it."""

    at_ms: Instant = 0
    reason: str = ""


class EndSession(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="LOGOUT"):
    """A browser logged out. No API process accepts its session, which would have ended at `until_ms`."""

    until_ms: Instant
    at_ms: Instant = 0


Command = (
    Pause
    | LimitRate
    | LimitKind
    | SetConcurrency
    | Cancel
    | StartTask
    | StartWaiting
    | CancelWaiting
    | Drain
    | EndSession
)
OfWaiting = StartWaiting | CancelWaiting

encode_command = msgspec.json.Encoder().encode
"""Turn a command into the JSON bytes that go onto the topic."""
_decode = msgspec.json.Decoder(Command).decode
_decode_kind = msgspec.json.Decoder(Kind).decode


class Family(StrEnum):
    """The first part of a key."""

    PAUSE = "pause"
    RATE = "rate"
    LIMIT = "limit"
    CONCURRENCY = "concurrency"
    DRAIN = "drain"
    CANCEL_OBJECT = "cancel:object"
    CANCEL_TASK = "cancel:task"
    CANCEL_FILTER = "cancel:filter"
    CANCEL_WAITING = "cancel:waiting"
    START_TASK = "start:task"
    START_WAITING = "start:waiting"
    SESSION = "session"


class CommandKey(NamedTuple):
    """A key taken apart; `name` is "" where a key rules all kinds or workers."""

    family: Family
    name: str

    def encoded(self) -> bytes:
        """Return the record's key."""
        return (f"{self.family}:{self.name}" if self.name else str(self.family)).encode()


_TYPE_OF: dict[Family, type[Command]] = {
    Family.PAUSE: Pause,
    Family.RATE: LimitRate,
    Family.LIMIT: LimitKind,
    Family.CONCURRENCY: SetConcurrency,
    Family.DRAIN: Drain,
    Family.CANCEL_OBJECT: Cancel,
    Family.CANCEL_TASK: Cancel,
    Family.CANCEL_FILTER: Cancel,
    Family.CANCEL_WAITING: CancelWaiting,
    Family.START_TASK: StartTask,
    Family.START_WAITING: StartWaiting,
    Family.SESSION: EndSession,
}
_FOR_ALL = {Family.PAUSE, Family.CONCURRENCY}


def parse_command_key(key: bytes | None) -> CommandKey:
    """Take a key apart; raises `BadCommand`."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        raise BadCommand("the key is not UTF-8") from None
    for family in Family:
        if text == family and family in _FOR_ALL:
            return CommandKey(family, "")
        name = text.removeprefix(f"{family}:")
        if name and name != text:
            return CommandKey(family, name)
    raise BadCommand(f"no command has the key {text[:100]!r}")


def decode_command(command_key: CommandKey, value: bytes) -> Command:
    """Return the command of a record; raises `BadCommand` if it cannot be read, or does not match its key."""
    try:
        command: Command = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCommand(f"{error}") from None
    if not isinstance(command, _TYPE_OF[command_key.family]):
        raise BadCommand(f"a {type(command).__name__} does not belong under this key")
    said = _said_of(command_key, command)
    if said is not UNSET and said != command_key.name:
        raise BadCommand(f"the key says {command_key.name!r}, the value {said!r}")
    return command


def _said_of(command_key: CommandKey, command: Command) -> object:
    """Return what a command's value says under which name it stands; UNSET: nothing. Raises `BadCommand`."""
    if isinstance(command, StartTask):
        if not is_key(command.row):
            raise BadCommand("its row is no key of the table `waiting`")
        return command.task_id
    if isinstance(command, StartWaiting | CancelWaiting):
        return filter_name(command)
    if isinstance(command, LimitRate | LimitKind):
        return command.kind
    if not isinstance(command, Cancel):
        return command_key.name
    if command_key.family is not Family.CANCEL_FILTER:
        return command.object_id if command_key.family is Family.CANCEL_OBJECT else command.task_id
    if command.created_before_ms is UNSET:
        # It would cancel all that is yet to come, for ever.
        raise BadCommand("a filter needs created_before_ms")
    return command_key.name


def filter_name(command: OfWaiting) -> str:
    """Return how the key of a command names its filter: `kind=mail&reason=retry`, or `*` for all that waits."""
    given = {name: getattr(command, name) for name in ("kind", "reason", "object_id")}
    return urlencode({name: value for name, value in given.items() if value is not UNSET}) or "*"
