"""Changes of schedules: check the request, write it to `schedules`, and wait until a worker has taken it over.

Guarantee: if the answer is a success, every in-sync replica has the change. It is safe to repeat: the key of the record
is the schedule's name, and the last record of a name is in force.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from api.dependencies import Collaborators, now_ms
from api.schedules.answers import in_full
from api.schedules.schemas import ScheduleAccepted, ScheduleAsked
from api.server import problems
from api.submit.decoding import WrongFields
from api.submit.payload import compact_payload, prepare, too_large, what_is_wrong
from api.submit.schemas import ObjectRequest
from app.errors import BrokerUnavailable, OutcomeUnknown, RecordRefused
from app.rules.distribution import MAX_EVENT_BYTES
from app.rules.outgoing import Outgoing
from app.rules.placement import partition_of
from app.rules.schedule_times import why_no_timing
from app.rules.schedules import Schedule, encode_schedule, fired_object_id, read_schedule
from app.telemetry.near_names import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIELDS = {"name": "object_name"}
"""Fields of an object that have another name in a schedule."""


async def find_schedule(parts: Collaborators, name: str) -> Schedule:
    """Return a schedule that any API process has acknowledged. Raises `Problem` (404), `ViewBehind`."""
    await parts.view.catch_up(parts.view.names.schedules)
    schedule = parts.view.schedules.find(name)
    if schedule is None:
        guess = did_you_mean(name, parts.view.schedules.names())
        raise problems.not_found(f"there is no schedule {shown(name)}{guess}; GET /api/schedules lists them")
    return schedule


def schedule_of(parts: Collaborators, name: str, asked: ScheduleAsked) -> Schedule:
    """Return the schedule that a body asks for. Raises `Problem` (413, 422) that names every wrong field."""
    try:
        payload = compact_payload(
            ObjectRequest(
                name=name if asked.object_name is UNSET else asked.object_name,
                content=asked.content,
                kind=asked.kind,
                tasks=asked.tasks,
                callback_url=asked.callback_url,
                delay_s=asked.delay_s,
                key=asked.key,
            )
        )
    except WrongFields as error:
        raise problems.invalid(error.errors) from None
    schedule = _schedule(name, asked, payload, now_ms(parts))
    errors = [{"detail": detail, "pointer": f"#/{field}"} for field, detail in _wrong(schedule, payload, parts)]
    if errors:
        raise problems.invalid(errors)
    sample = prepare(payload, fired_object_id(name, schedule.at_ms), parts.settings, schedule.at_ms)
    refusal = too_large(sample, parts.settings)
    if refusal is None and len(encode_schedule(schedule)) > MAX_EVENT_BYTES:
        refusal = f"the record of the schedule has more than {MAX_EVENT_BYTES} bytes: send references to large contents"
    if refusal is not None:
        raise problems.Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", refusal)
    return schedule


def payload_of(schedule: Schedule) -> ObjectRequest:
    """Return the request for the object that a schedule submits."""
    tasks: Any = UNSET if schedule.task_count is None else schedule.task_count
    items: Any = schedule.items
    return ObjectRequest(
        name=schedule.name if schedule.object_name is UNSET else schedule.object_name,
        content=schedule.content,
        kind=schedule.kind,
        tasks=tasks if schedule.items is UNSET else items,
        callback_url=schedule.callback_url,
        delay_s=schedule.delay_s,
        key=schedule.key,
    )


async def put(parts: Collaborators, schedule: Schedule) -> ScheduleAccepted:
    """Set a schedule. Raises `Problem` (503)."""
    seen = await _write(parts, schedule.name, schedule)
    return ScheduleAccepted(
        name=schedule.name,
        status="accepted",
        seen=seen,
        warnings=_warnings(seen=seen),
        schedule=in_full(parts, schedule),
    )


async def delete(parts: Collaborators, name: str) -> ScheduleAccepted:
    """Delete a schedule. Raises `Problem` (503)."""
    seen = await _write(parts, name, None)
    return ScheduleAccepted(name=name, status="accepted", seen=seen, warnings=_warnings(seen=seen), schedule=None)


def with_pause(parts: Collaborators, schedule: Schedule, *, paused: bool) -> Schedule:
    """Return a schedule with this value of `paused`."""
    return msgspec.structs.replace(schedule, paused=paused, at_ms=now_ms(parts))


async def _write(parts: Collaborators, name: str, schedule: Schedule | None) -> bool:
    """Write a record, and return whether a worker has taken it over within the time of a request."""
    topic, key = parts.settings.names.schedules, name.encode()
    partition = partition_of(key, parts.settings.partitions)
    value = None if schedule is None else encode_schedule(schedule)
    asked = None if value is None else read_schedule(value)
    try:
        ends = await parts.publisher.publish_to([Outgoing(topic, partition, key, value)])
    except (OutcomeUnknown, BrokerUnavailable, RecordRefused) as error:
        raise problems.not_written(error, "the change", {"name": name, "safe_to_repeat": True}) from error
    end = ends.get((topic, partition))
    if end is None or not await parts.view.wait_for(topic, {partition: end}):
        return False
    # Or somebody else has changed the schedule since: then nobody takes this change over any more.
    schedules = parts.view.schedules
    return await parts.view.wait_until(lambda: schedules.is_taken(name) or schedules.find(name) != asked)


def _schedule(name: str, asked: ScheduleAsked, payload: ObjectRequest, at_ms: int) -> Schedule:
    tasks: Any = payload.tasks
    return Schedule(
        name=name,
        cron=asked.cron,
        every_s=asked.every_s,
        time_zone=asked.time_zone,
        start_at=asked.start_at,
        end_at=asked.end_at,
        paused=asked.paused,
        missed=asked.missed,
        kind=asked.kind,
        object_name=asked.object_name,
        content=asked.content if payload.content is UNSET else payload.content,
        task_count=tasks if isinstance(tasks, int) else None,
        items=tasks if isinstance(tasks, list) else UNSET,
        callback_url=asked.callback_url,
        delay_s=asked.delay_s,
        key=asked.key,
        at_ms=at_ms,
    )


def _wrong(schedule: Schedule, payload: ObjectRequest, parts: Collaborators) -> Iterator[tuple[str, str]]:
    wrong_timing = why_no_timing(schedule.timing)
    if wrong_timing is not None:
        yield wrong_timing
    for field, wrong in what_is_wrong(payload, parts.settings):
        yield _FIELDS.get(field, field), wrong
    for number, item in enumerate(() if schedule.items is UNSET else schedule.items):
        if item.due_at is not UNSET:
            yield f"tasks/{number}/due_at", "each instant makes new tasks: give delay_s, in seconds after the instant"


def _warnings(*, seen: bool) -> list[str]:
    if seen:
        return []
    return ["no distribution worker has taken it over yet: it takes effect when such a worker runs (GET /api/workers)"]
