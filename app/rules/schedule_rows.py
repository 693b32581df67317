"""Rows of the table `schedules`, and what a step of distribution does to them.

A schedule has two rows: b"d" and its name, the definition as it lies on the topic; b"s" and its name, when it fires
next. So what changes each time it fires is small, however large the content is.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from app.events import Instant
from app.rules.schedule_times import GRACE_MS, last_instant, next_instant
from app.rules.schedules import Schedule, decode_schedule

DEFINITION = b"d"
STATE = b"s"


class ScheduleState(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where a schedule stands: its next instant (None: paused, or it has ended), the last fired one, how many fired."""

    next_at_ms: Instant | None = None
    last_at_ms: Instant | None = None
    fired_count: int = 0


class Firing(NamedTuple):
    """The instants to fire now, oldest first, the state after them, and from when to when instants were passed over."""

    instants: list[int]
    state: ScheduleState
    passed_over: tuple[int, int] | None = None


encode_state = msgspec.msgpack.Encoder().encode
decode_state = msgspec.msgpack.Decoder(ScheduleState).decode


def definition_key(name: bytes) -> bytes:
    """Return the key of the row that has a schedule's definition."""
    return DEFINITION + name


def state_key(name: bytes) -> bytes:
    """Return the key of the row that says when a schedule fires next."""
    return STATE + name


def is_row(key: bytes, value: bytes) -> bool:
    """Return whether this is a row of the table. Raises `ValueError` or msgspec's `DecodeError` for a wrong value."""
    family, name = key[:1], key[1:]
    if family == STATE:
        decode_state(value)
        return bool(name)
    return family == DEFINITION and decode_schedule(value).name.encode() == name


def taken_state(old: Schedule | None, state: ScheduleState | None, new: Schedule, now_ms: int) -> ScheduleState:
    """Return the state of a schedule that is set now; `old` and `state` are what it was before.

    If only its object changes, its next instant stays. Else it begins when it was set, but at most a minute ago: a log
    that is read again from its beginning must not fire the instants of months. No instant is fired twice, whatever the
    clock says: the next one is always after the last.
    """
    state = state or ScheduleState()
    if new.paused:
        return msgspec.structs.replace(state, next_at_ms=None)
    if old is not None and state.next_at_ms is not None and old.timing == new.timing:
        return state
    begin_ms = min(max(new.at_ms, now_ms - GRACE_MS), now_ms)
    after_ms = begin_ms if state.last_at_ms is None else max(begin_ms, state.last_at_ms)
    return msgspec.structs.replace(state, next_at_ms=next_instant(new.timing, after_ms))


def fire(schedule: Schedule, state: ScheduleState, now_ms: int, limit: int) -> Firing:
    """Return what a schedule fires now: at most `limit` instants, the others stay due.

    An instant is missed if it is older than `GRACE_MS`. `none` passes missed instants over, `last` fires the last one
    unless a later one is due as well, `all` fires each.
    """
    next_ms = state.next_at_ms
    if next_ms is None or next_ms > now_ms:
        return Firing([], state)
    passed_over = None
    instants: list[int] = []
    if schedule.missed != "all" and next_ms < now_ms - GRACE_MS:
        first_missed_ms = next_ms
        next_ms = next_instant(schedule.timing, now_ms - GRACE_MS - 1)
        passed_over = (first_missed_ms, now_ms - GRACE_MS - 1)
        if schedule.missed == "last" and (next_ms is None or next_ms > now_ms):
            instants = [last_instant(schedule.timing, first_missed_ms, now_ms)]
            passed_over = (first_missed_ms, instants[0] - 1) if instants[0] > first_missed_ms else None
    while next_ms is not None and next_ms <= now_ms and len(instants) < limit:
        instants.append(next_ms)
        next_ms = next_instant(schedule.timing, next_ms)
    last_ms = instants[-1] if instants else state.last_at_ms
    return Firing(instants, ScheduleState(next_ms, last_ms, state.fired_count + len(instants)), passed_over)
