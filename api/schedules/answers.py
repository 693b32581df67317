"""Schedules in answers of the API."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from msgspec import UNSET

from api.dependencies import Collaborators, now_ms, object_links
from api.schedules.schemas import ListedSchedule, ScheduleDetail, ScheduleLinks, State
from api.submit.schemas import said
from app.rules.schedule_times import in_words, next_instants
from app.rules.schedules import fired_object_id
from ebs.client.segments import segment

if TYPE_CHECKING:
    from app.events import ItemRecord
    from app.rules.schedules import Schedule

SHOWN_INSTANTS = 5
_MS_PER_S = 1_000


def listed(parts: Collaborators, schedule: Schedule) -> ListedSchedule:
    """Return a schedule without the content of its objects."""
    return ListedSchedule(**_fields(parts, schedule))


def in_full(parts: Collaborators, schedule: Schedule) -> ScheduleDetail:
    """Return a schedule with the object that it submits."""
    return ScheduleDetail(**in_full_fields(parts, schedule))


def in_full_fields(parts: Collaborators, schedule: Schedule) -> dict[str, Any]:
    """Return the fields of a schedule with the object that it submits."""
    items: Any = None if schedule.items is UNSET else [_item(one) for one in schedule.items]
    return {
        **_fields(parts, schedule),
        "object_name": said(schedule.object_name),
        "content": schedule.content,
        "tasks": schedule.task_count if items is None else items,
        "callback_url": said(schedule.callback_url),
        "delay_s": said(schedule.delay_s),
        "key": said(schedule.key),
    }


def _fields(parts: Collaborators, schedule: Schedule) -> dict[str, Any]:
    state = parts.view.schedules.state(schedule.name)
    is_taken = parts.view.schedules.is_taken(schedule.name)
    last_id = None if state.last_at_ms is None else fired_object_id(schedule.name, state.last_at_ms)
    instants = _next_instants(schedule, state.next_at_ms if is_taken else None, now_ms(parts))
    last_link = None if last_id is None else object_links(last_id).self
    return {
        "name": schedule.name,
        "in_words": in_words(schedule.timing),
        "state": _state(schedule, is_taken=is_taken, ended=state.next_at_ms is None),
        "cron": said(schedule.cron),
        "every_s": said(schedule.every_s),
        "time_zone": schedule.time_zone,
        "start_at": None if schedule.start_at is UNSET else schedule.start_at.isoformat(),
        "end_at": None if schedule.end_at is UNSET else schedule.end_at.isoformat(),
        "paused": schedule.paused,
        "missed": schedule.missed,
        "kind": schedule.kind,
        "set_at_ms": schedule.at_ms,
        "next_at_ms": instants[0] if instants else None,
        "last_at_ms": state.last_at_ms,
        "last_object_id": last_id,
        "fired_count": state.fired_count,
        "next_instants": [_in_zone(at_ms, schedule.time_zone) for at_ms in instants],
        "links": ScheduleLinks(f"/api/schedules/{segment(schedule.name)}", last_link),
    }


def _state(schedule: Schedule, *, is_taken: bool, ended: bool) -> State:
    if not is_taken:
        return "NEW"
    if schedule.paused:
        return "PAUSED"
    return "ENDED" if ended else "WAITING"


def _next_instants(schedule: Schedule, next_at_ms: int | None, at_ms: int) -> list[int]:
    if schedule.paused:
        return []
    if next_at_ms is None:
        return next_instants(schedule.timing, at_ms, SHOWN_INSTANTS)
    return [next_at_ms, *next_instants(schedule.timing, next_at_ms, SHOWN_INSTANTS - 1)]


def _in_zone(at_ms: int, time_zone: str) -> str:
    return datetime.fromtimestamp(at_ms / _MS_PER_S, ZoneInfo(time_zone)).isoformat(timespec="auto")


def _item(item: ItemRecord) -> dict[str, Any]:
    fields = {"name": item.name, "content": item.content, "delay_s": item.delay_s}
    return {name: value for name, value in fields.items() if value is not UNSET}
