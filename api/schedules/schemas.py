"""Requests and answers about schedules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, UnsetType, field

from api.server.documented import Documented, RequestBody
from api.server.schemas import EpochMs, Kind, ViewAnswer
from api.submit.schemas import DEFAULT_KIND, Items, TaskNumber
from app import json_text
from app.events import CallbackUrl, DelayS, DueAt, Key
from app.rules import schedules as rules

State = Literal["WAITING", "PAUSED", "ENDED", "NEW"]


class ScheduleAsked(RequestBody, frozen=True, kw_only=True):
    """When a schedule fires, and the object that it submits each time. Give `cron` or `every_s`."""

    cron: Annotated[
        str | UnsetType,
        Meta(
            description="Minute, hour, day of month, month, day of week; or six fields, the first one for seconds; or "
            "`@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`",
            examples=["30 6 * * 1-5"],
        ),
    ] = UNSET
    every_s: Annotated[
        rules.EveryS | UnsetType,
        Meta(description="Seconds between two instants, counted from `start_at` or from 1970", examples=[3600]),
    ] = UNSET
    time_zone: Annotated[
        str,
        Meta(description="Time zone of the cron line, by its IANA name", examples=["Europe/Berlin"]),
    ] = "UTC"
    start_at: Annotated[
        DueAt | UnsetType, Meta(description="No instant is before this time, which needs a time zone. Default: now")
    ] = UNSET
    end_at: Annotated[DueAt | UnsetType, Meta(description="No instant is after this time. Default: no end")] = UNSET
    paused: Annotated[
        bool, Meta(description="A paused schedule does not fire. Instants that come while it is paused never fire")
    ] = False
    missed: Annotated[
        rules.Missed,
        Meta(
            description="Which instants fire later if no worker could fire them within a minute: none, the last one, "
            "or all"
        ),
    ] = "last"
    kind: Annotated[Kind, Meta(description="Kind of the objects")] = DEFAULT_KIND
    object_name: Annotated[str | UnsetType, Meta(description="Name of the objects. Default: that of the schedule")] = (
        UNSET
    )
    content: Annotated[Raw, Meta(description="Content of the objects: any JSON value. Default: null")] = field(
        default_factory=lambda: json_text.NULL
    )
    tasks: Annotated[
        TaskNumber | Items | UnsetType,
        Meta(description="Number of tasks of each object, or a list of items, as for an object (without `due_at`)"),
    ] = UNSET
    callback_url: Annotated[
        CallbackUrl | UnsetType, Meta(description="Where ebs sends each end of each object, as for an object")
    ] = UNSET
    delay_s: Annotated[
        DelayS | UnsetType, Meta(description="Seconds from the instant until the tasks start. Default: 0")
    ] = UNSET
    key: Annotated[Key | UnsetType, Meta(description="Key of the objects: limits by key (`per_key`) count by it")] = (
        UNSET
    )


class ScheduleLinks(Documented, frozen=True):
    """Links."""

    self: str
    last_object: Annotated[str | None, Meta(description="null: it has not fired yet")]


class ListedSchedule(Documented, frozen=True, kw_only=True):
    """A schedule in a list, without the content of its objects."""

    name: str
    in_words: Annotated[str, Meta(examples=["At 06:30 every weekday, Europe/Berlin"])]
    state: Annotated[
        State, Meta(description="NEW: no distribution worker has taken it over yet. ENDED: `end_at` has passed")
    ]
    cron: str | None
    every_s: float | None
    time_zone: str
    start_at: str | None
    end_at: str | None
    paused: bool
    missed: rules.Missed
    kind: str
    set_at_ms: EpochMs
    next_at_ms: Annotated[int | None, Meta(description="UTC epoch milliseconds; null: it does not fire")]
    last_at_ms: Annotated[int | None, Meta(description="The last instant that fired; null: none has")]
    last_object_id: Annotated[str | None, Meta(examples=["nightly@2026-11-28T05:30:00Z"])]
    fired_count: Annotated[int, Meta(description="Number of objects that it has submitted, without those of `run`")]
    next_instants: Annotated[
        list[str],
        Meta(description="The next five instants in its time zone", examples=[["2026-11-30T06:30:00+01:00"]]),
    ]
    links: ScheduleLinks


class ScheduleDetail(ListedSchedule, frozen=True, kw_only=True):
    """A schedule with the object that it makes."""

    object_name: str | None
    content: Any
    tasks: Annotated[int | list[Any] | None, Meta(description="null: the split of the kind or the setting decides")]
    callback_url: str | None
    delay_s: float | None
    key: str | None


class ScheduleAnswer(ScheduleDetail, frozen=True, kw_only=True):
    """A schedule, and how current the answer is."""

    view: ViewAnswer


class SchedulePage(Documented, frozen=True, kw_only=True):
    """Schedules by name."""

    schedules: list[ListedSchedule]
    next_cursor: Annotated[str | None, Meta(description="null: this is the last page")]
    view: ViewAnswer


class ScheduleAccepted(Documented, frozen=True, kw_only=True):
    """Kafka has stored the change."""

    name: str
    status: Literal["accepted"]
    seen: Annotated[
        bool, Meta(description="Whether a distribution worker has taken it over; if false, one does once it runs")
    ]
    warnings: list[str]
    schedule: Annotated[ScheduleDetail | None, Meta(description="null: it is deleted")]
