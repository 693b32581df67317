"""Schedules: the definition as it lies on the topic `schedules`, and the object that each instant makes.

The topic is compacted: the last record of a name is the schedule, and a tombstone deletes it. The key is the name; its
partition is that of the name (`app.rules.placement`), so that one distribution worker owns each schedule.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app import json_text
from app.errors import DecodeError
from app.events import (
    DECODE_ERRORS,
    MAX_TASKS,
    CallbackUrl,
    DelayS,
    DueAt,
    Instant,
    ItemRecord,
    Key,
    Kind,
    ObjectCreated,
    TaskCount,
    explain_decode_error,
    object_created_id,
)
from app.rules.schedule_times import MAX_EVERY_S, MIN_EVERY_S, Timing, why_no_timing

if TYPE_CHECKING:
    from collections.abc import Callable

_S_MS = 1_000
_NAME_PATTERN = r"^[A-Za-z0-9._-]+\Z"
_NAME = re.compile(_NAME_PATTERN)
MAX_NAME_CHARS = 64
NAME_IN_WORDS = f"1 to {MAX_NAME_CHARS} characters out of A-Z a-z 0-9 . _ -, such as nightly-report"
ScheduleName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=_NAME_PATTERN)]
EveryS = Annotated[float, Meta(ge=MIN_EVERY_S, le=MAX_EVERY_S)]
Missed = Literal["none", "last", "all"]


class Schedule(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="SCHEDULE"):
    """A schedule: when it fires, and the object that it makes then.

    It has `cron` (in `time_zone`) or `every_s` (counted from `start_at`, default: from 1970 in UTC). It fires at no
    instant before `start_at` or after `end_at`, and not while `paused`. `missed` says what becomes of instants that
    no worker could fire within a minute. The other fields are those of an object; `at_ms` is when it was set.
    """

    name: ScheduleName
    cron: str | UnsetType = UNSET
    every_s: EveryS | UnsetType = UNSET
    time_zone: str = "UTC"
    start_at: DueAt | UnsetType = UNSET
    end_at: DueAt | UnsetType = UNSET
    paused: bool = False
    missed: Missed = "last"
    kind: Kind = "default"
    object_name: str | UnsetType = UNSET
    content: msgspec.Raw = json_text.NULL
    task_count: TaskCount | None = None
    items: Annotated[list[ItemRecord], Meta(min_length=1, max_length=MAX_TASKS)] | UnsetType = UNSET
    callback_url: CallbackUrl | UnsetType = UNSET
    delay_s: DelayS | UnsetType = UNSET
    key: Key | UnsetType = UNSET
    at_ms: Instant = 0

    @property
    def timing(self) -> Timing:
        """When it fires."""
        return Timing(
            None if self.cron is UNSET else self.cron,
            None if self.every_s is UNSET else round(self.every_s * _S_MS),
            self.time_zone,
            None if self.start_at is UNSET else _epoch_ms(self.start_at),
            None if self.end_at is UNSET else _epoch_ms(self.end_at),
        )


encode_schedule = msgspec.json.Encoder().encode
"""Turn a schedule into the JSON bytes that go onto the topic."""
_decode: Any = msgspec.json.Decoder(Schedule).decode
read_schedule = cast("Callable[[bytes], Schedule]", _decode)
"""Read a schedule that `decode_schedule` has accepted before, as a row has it."""


def decode_schedule(value: bytes) -> Schedule:
    """Return a schedule. Raises `DecodeError` if it cannot be read, or could never fire."""
    try:
        schedule = cast("Schedule", _decode(value))
        json_text.check(schedule.content)
        for item in () if schedule.items is UNSET else schedule.items:
            json_text.check(item.content)
    except DECODE_ERRORS as error:
        raise explain_decode_error("a schedule", error) from error
    wrong = why_no_timing(schedule.timing)
    if wrong is not None:
        raise DecodeError(f"schedule {schedule.name} has a wrong {wrong[0]}: {wrong[1]}")
    return schedule


def checked_name(name: str) -> str:
    """Return the name of a schedule. Raises `ValueError` for what cannot be one."""
    if len(name) > MAX_NAME_CHARS or _NAME.match(name) is None:
        raise ValueError(f"The name of a schedule has {NAME_IN_WORDS}")
    return name


def fired_object_id(name: str, instant_ms: int) -> str:
    """Return the id of the object of an instant, such as `nightly@2026-11-28T05:30:00Z`."""
    at = datetime.fromtimestamp(instant_ms // _S_MS, UTC)
    fraction = f".{instant_ms % _S_MS:03d}" if instant_ms % _S_MS else ""
    return f"{name}@{at:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def object_of(schedule: Schedule, object_id: str, at_ms: int) -> ObjectCreated:
    """Return the object that a schedule makes."""
    return ObjectCreated(
        id=object_created_id(object_id),
        object_id=object_id,
        kind=schedule.kind,
        task_count=schedule.task_count,
        name=schedule.name if schedule.object_name is UNSET else schedule.object_name,
        content=schedule.content,
        at_ms=at_ms,
        items=schedule.items,
        callback_url=schedule.callback_url,
        delay_s=schedule.delay_s,
        key=schedule.key,
    )


def _epoch_ms(at: datetime) -> int:
    return max(0, round(at.timestamp() * _S_MS))
