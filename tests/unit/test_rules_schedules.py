"""Schedules as records and rows: what fires now, what was missed, what a new definition changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import DecodeError
from app.events import ItemRecord, decode_object, encode
from app.rules.schedule_rows import ScheduleState, fire, taken_state
from app.rules.schedule_times import GRACE_MS
from app.rules.schedules import (
    Schedule,
    checked_name,
    decode_schedule,
    encode_schedule,
    fired_object_id,
    object_of,
)

NOW_MS = 1_795_489_276_303
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def hourly(**fields: Any) -> Schedule:
    """Return a schedule of every hour."""
    return Schedule(**{"name": "nightly", "every_s": 3_600, "at_ms": NOW_MS, **fields})


def every_second(**fields: Any) -> Schedule:
    """Return a schedule of every second."""
    return hourly(every_s=1, **fields)


def test_a_record_comes_back_as_it_was():
    """With content as it was written, and items."""
    schedule = hourly(content=msgspec.Raw(b'{"a":1.0}'), items=[ItemRecord(name="n")], delay_s=2.5, paused=True)
    assert schedule == decode_schedule(encode_schedule(schedule))


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"{}",
        b'{"type":"SCHEDULE","name":"a"}',
        b'{"type":"SCHEDULE","name":"a b","every_s":1}',
        b'{"type":"SCHEDULE","name":"a","every_s":0.5}',
        b'{"type":"SCHEDULE","name":"a","cron":"x"}',
        b'{"type":"SCHEDULE","name":"a","every_s":1,"time_zone":"Moon"}',
        b'{"type":"SCHEDULE","name":"a","every_s":1,"content":{"a":\xff}}',
        b'{"type":"PAUSE","name":"a","every_s":1}',
    ],
)
def test_a_record_that_is_no_schedule_is_refused(value):
    """As it goes to the dead letters, the worker goes on."""
    with pytest.raises(DecodeError):
        decode_schedule(value)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "a\n", "x" * 65])
def test_a_name_that_cannot_be_one_names_what_can(name):
    """It is part of keys, ids and paths."""
    with pytest.raises(ValueError, match="such as nightly-report"):
        checked_name(name)
    assert "nightly.report_2" == checked_name("nightly.report_2")


def test_the_object_of_an_instant_says_which():
    """The id is a function of name and instant alone, so a second firing would make the same object."""
    at_ms = round(datetime(2026, 11, 28, 5, 30, tzinfo=UTC).timestamp() * 1_000)
    assert "nightly@2026-11-28T05:30:00Z" == fired_object_id("nightly", at_ms)
    assert "nightly@2026-11-28T05:30:00.500Z" == fired_object_id("nightly", at_ms + 500)
    schedule = hourly(kind="report", content=msgspec.Raw(b"[1]"), task_count=2, delay_s=3.0, key="ann")
    event = object_of(schedule, "nightly@x", NOW_MS)
    assert event == decode_object(encode(event))
    assert ("nightly", "report", 2, b"[1]", 3.0, "ann") == (
        event.name,
        event.kind,
        event.task_count,
        bytes(event.content),
        event.delay_s,
        event.key,
    )


def test_nothing_fires_early():
    """Not by a millisecond of the worker's clock."""
    state = ScheduleState(next_at_ms=NOW_MS)
    assert [] == fire(hourly(), state, NOW_MS - 1, 9).instants
    assert [NOW_MS] == fire(hourly(), state, NOW_MS, 9).instants


@pytest.mark.parametrize("missed", ["none", "last", "all"])
def test_what_is_less_than_a_minute_late_is_not_missed(missed):
    """A restart or a rebalance loses no instant, whatever the policy."""
    first_ms = NOW_MS // 1_000 * 1_000 - GRACE_MS + 1_000
    found = fire(every_second(missed=missed), ScheduleState(first_ms), NOW_MS, 1_000)
    assert [first_ms + 1_000 * number for number in range(60)] == found.instants
    assert found.passed_over is None
    assert found.instants[-1] + 1_000 == found.state.next_at_ms


@pytest.mark.parametrize(("missed", "expected"), [("none", []), ("last", [4]), ("all", [0, 1, 2, 3, 4])])
def test_missed_instants(missed, expected):
    """Nothing ran for almost five hours."""
    first_ms = NOW_MS // HOUR_MS * HOUR_MS
    now_ms = first_ms + 4 * HOUR_MS + 2 * MINUTE_MS
    found = fire(hourly(missed=missed), ScheduleState(first_ms), now_ms, 99)
    assert [first_ms + HOUR_MS * number for number in expected] == found.instants
    assert first_ms + 5 * HOUR_MS == found.state.next_at_ms
    assert (found.passed_over is None) == (missed == "all")


def test_the_last_missed_one_is_left_out_if_a_later_one_is_due():
    """One run for the time in which nothing ran: that one."""
    first_ms = NOW_MS // HOUR_MS * HOUR_MS
    found = fire(hourly(missed="last"), ScheduleState(first_ms), first_ms + 2 * HOUR_MS + 1_000, 99)
    assert [first_ms + 2 * HOUR_MS] == found.instants


def test_a_step_fires_a_bounded_number_and_the_rest_stays_due():
    """A week of seconds must not make one giant transaction."""
    schedule, state = every_second(missed="all"), ScheduleState(NOW_MS // 1_000 * 1_000)
    found = fire(schedule, state, NOW_MS + HOUR_MS, 100)
    assert 100 == len(found.instants)
    assert found.instants[-1] + 1_000 == found.state.next_at_ms
    assert 100 == found.state.fired_count


def test_the_end_of_a_schedule_is_fired_and_then_nothing():
    """Its row stays until somebody deletes it."""
    end = datetime.fromtimestamp(NOW_MS // 1_000, UTC)
    found = fire(every_second(end_at=end), ScheduleState(NOW_MS // 1_000 * 1_000), NOW_MS + 5_000, 9)
    assert [NOW_MS // 1_000 * 1_000] == found.instants
    assert found.state.next_at_ms is None
    assert [] == fire(every_second(end_at=end), found.state, NOW_MS + HOUR_MS, 9).instants


@given(st.lists(st.integers(-2 * HOUR_MS, 2 * HOUR_MS), min_size=1, max_size=20), st.sampled_from(["none", "all"]))
def test_no_clock_makes_an_instant_fire_twice_or_early(jumps, missed):
    """Whatever the clocks of changing workers say, instants only go forward, and none is ahead of the clock."""
    schedule, state = hourly(every_s=60, missed=missed), ScheduleState(NOW_MS // MINUTE_MS * MINUTE_MS)
    clock_ms, fired = NOW_MS, []
    for jump_ms in jumps:
        clock_ms += jump_ms
        found = fire(schedule, state, clock_ms, 1_000)
        assert all(instant <= clock_ms for instant in found.instants)
        fired += found.instants
        state = found.state
    assert sorted(set(fired)) == fired
    if missed == "all":
        assert [fired[0] + MINUTE_MS * number for number in range(len(fired))] == fired if fired else True


def test_a_clock_an_hour_ahead_fires_what_it_says_and_then_nothing_until_its_time():
    """And a clock that jumps back fires nothing twice."""
    begin_ms = NOW_MS // HOUR_MS * HOUR_MS
    state = ScheduleState(begin_ms)
    ahead = fire(hourly(missed="all"), state, begin_ms + HOUR_MS + 5, 99)
    assert [begin_ms, begin_ms + HOUR_MS] == ahead.instants
    assert [] == fire(hourly(missed="all"), ahead.state, begin_ms + 10, 99).instants
    assert [] == fire(hourly(missed="all"), ahead.state, begin_ms + HOUR_MS + 10, 99).instants


def test_a_new_schedule_begins_after_it_was_set():
    """An instant between the API's answer and the worker's step is not lost."""
    second_ms = NOW_MS // 1_000 * 1_000
    state = taken_state(None, None, every_second(at_ms=second_ms - 1), second_ms + 700)
    assert second_ms == state.next_at_ms


def test_an_old_record_does_not_fire_the_past():
    """The log is read again from its beginning, with an empty table."""
    state = taken_state(None, None, every_second(at_ms=NOW_MS - 900 * HOUR_MS, missed="all"), NOW_MS)
    assert NOW_MS - GRACE_MS < (state.next_at_ms or 0)


def test_a_new_content_does_not_move_the_next_instant():
    """Nor does the same definition again."""
    state = ScheduleState(NOW_MS - 5, NOW_MS - HOUR_MS, 7)
    assert state == taken_state(hourly(), state, hourly(content=msgspec.Raw(b"2"), at_ms=NOW_MS), NOW_MS)


def test_a_new_timing_counts_from_now():
    """What the old one had due is not fired by the new one."""
    state = taken_state(hourly(), ScheduleState(NOW_MS - HOUR_MS), every_second(at_ms=NOW_MS), NOW_MS)
    assert NOW_MS < (state.next_at_ms or 0) <= NOW_MS + 1_000


def test_paused_instants_are_passed_over():
    """They are not missed: somebody wanted them not to fire."""
    state = ScheduleState(NOW_MS, NOW_MS - 1_000, 5)
    paused = taken_state(every_second(), state, every_second(paused=True), NOW_MS)
    assert ScheduleState(None, NOW_MS - 1_000, 5) == paused
    resumed = taken_state(every_second(paused=True), paused, every_second(at_ms=NOW_MS + HOUR_MS), NOW_MS + HOUR_MS)
    assert NOW_MS + HOUR_MS < (resumed.next_at_ms or 0) <= NOW_MS + HOUR_MS + 1_000


def test_no_instant_before_the_last_fired_one_by_a_clock_that_went_back():
    """Another worker, whose clock is behind, takes a new timing."""
    state = ScheduleState(NOW_MS + HOUR_MS, NOW_MS, 5)
    taken = taken_state(hourly(), state, every_second(at_ms=NOW_MS - HOUR_MS), NOW_MS - HOUR_MS)
    assert NOW_MS < (taken.next_at_ms or 0)
