"""The instants of schedules: cron lines in time zones, periods, daylight saving of Europe/Berlin both ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.schedule_times import (
    Timing,
    in_words,
    last_instant,
    next_instant,
    next_instants,
    why_no_timing,
)

BERLIN = ZoneInfo("Europe/Berlin")
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def ms(text: str) -> int:
    """Return an instant, given in UTC unless it says otherwise."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)


def utc(instants: list[int]) -> list[str]:
    """Return instants as day and time of day in UTC."""
    return [f"{datetime.fromtimestamp(one / 1_000, UTC):%d %H:%M}" for one in instants]


def berlin(cron: str) -> Timing:
    """Return the timing of a cron line in Berlin."""
    return Timing(cron=cron, time_zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        # In the night to March 28 the clocks of Berlin go from 02:00 to 03:00, which is 01:00 UTC.
        ("30 2 * * *", "2027-03-27T12:00", ["28 01:00", "29 00:30", "30 00:30"]),
        ("0,30 2 * * *", "2027-03-27T12:00", ["28 01:00", "29 00:00", "29 00:30"]),
        ("0 2,3 * * *", "2027-03-27T12:00", ["28 01:00", "29 00:00", "29 01:00"]),
        ("30 6 * * *", "2027-03-27T12:00", ["28 04:30", "29 04:30", "30 04:30"]),
        ("*/30 * * * *", "2027-03-28T00:20", ["28 00:30", "28 01:00", "28 01:30"]),
        ("30 * * * *", "2027-03-28T00:00", ["28 00:30", "28 01:30", "28 02:30"]),
        # In the night to October 31 they go from 03:00 back to 02:00: 00:30 and 01:30 UTC are both 02:30.
        ("30 2 * * *", "2027-10-30T12:00", ["31 00:30", "01 01:30", "02 01:30"]),
        ("30 2 * * *", "2027-10-31T01:10", ["01 01:30", "02 01:30", "03 01:30"]),
        ("30 6 * * *", "2027-10-30T12:00", ["31 05:30", "01 05:30", "02 05:30"]),
        ("*/30 * * * *", "2027-10-31T00:20", ["31 00:30", "31 01:00", "31 01:30"]),
        ("30 * * * *", "2027-10-31T00:00", ["31 00:30", "31 01:30", "31 02:30"]),
    ],
)
def test_daylight_saving_of_berlin(cron, after, expected):
    """A fixed time fires once on each day, a line of all hours follows real time."""
    assert expected == utc(next_instants(berlin(cron), ms(after), 3))


def test_periods_know_no_daylight_saving():
    """An hour is an hour, in both nights."""
    hourly = Timing(every_ms=HOUR_MS, time_zone="Europe/Berlin")
    assert ["31 00:00", "31 01:00", "31 02:00"] == utc(next_instants(hourly, ms("2027-10-30T23:59"), 3))


def test_a_period_counts_from_its_start():
    """Without a start it counts from 1970, so a restart of anything moves no instant."""
    start_ms = ms("2027-01-01T00:07:30")
    assert ["01 00:07", "01 00:17"] == utc(next_instants(Timing(every_ms=600_000, start_ms=start_ms), 0, 2))
    assert ["01 00:10", "01 00:20"] == utc(next_instants(Timing(every_ms=600_000), start_ms, 2))


def test_start_and_end_are_instants_of_the_schedule():
    """Nothing fires before the start or after the end."""
    timing = Timing(cron="0 * * * *", start_ms=ms("2027-01-01T10:00"), end_ms=ms("2027-01-01T12:00"))
    assert ["01 10:00", "01 11:00", "01 12:00"] == utc(next_instants(timing, 0, 9))
    assert next_instant(timing, ms("2027-01-01T12:00")) is None


@pytest.mark.parametrize("timing", [Timing(every_ms=5_000), Timing(cron="*/5 * * * *", time_zone="Etc/GMT-14")])
def test_no_instant_is_later_than_the_calendar(timing):
    """Each has a date in every time zone: those of Samoa are in the year 10000 before those of UTC."""
    late = timing._replace(start_ms=ms("9999-12-30T23:59"))
    assert all(datetime.fromtimestamp(one / 1_000, ZoneInfo("Etc/GMT-14")) for one in next_instants(late, 0, 30))
    assert [] == next_instants(timing._replace(start_ms=ms("9999-12-31T23:59")), 0, 5)


@pytest.mark.parametrize(
    ("timing", "field", "part"),
    [
        (Timing(), "cron", "or every_s"),
        (Timing(cron="* * * * *", every_ms=1_000), "cron", "not both"),
        (Timing(cron="61 * * * *"), "cron", "bad minute"),
        (Timing(cron="* * *"), "cron", "wrong number of fields"),
        (Timing(cron=""), "cron", "wrong number of fields"),
        (Timing(cron="0 0 31 2 *"), "cron", "bad day-of-month"),
        (Timing(cron="5-1 * * * *"), "cron", "bad minute"),
        (Timing(cron="٣ * * * *"), "cron", "bad minute"),
        (Timing(cron="R * * * *"), "cron", "bad minute"),
        (Timing(cron="*/0 * * * *"), "cron", "bad minute"),
        (Timing(cron="@reboot"), "cron", "such as"),
        (Timing(cron="1," * 500 + "1 * * * *"), "cron", "200 characters"),
        (Timing(cron="* * * * *", time_zone="Europe/Berln"), "time_zone", 'did you mean "Europe/Berlin"'),
        (Timing(cron="* * * * *", time_zone="../../etc/passwd"), "time_zone", "such as Europe/Berlin"),
        (Timing(cron="* * * * *", time_zone="localtime"), "time_zone", "another time zone on each machine"),
        (Timing(cron="*/99999999999999999999 * * * *"), "cron", "a number in it is too large"),
        (Timing(cron="* * * * *", time_zone="Europe"), "time_zone", "such as Europe/Berlin"),
        (Timing(cron="* * * * *", time_zone=""), "time_zone", "such as Europe/Berlin"),
        (Timing(cron="* * * * *", time_zone="a\0b"), "time_zone", "such as Europe/Berlin"),
        (Timing(cron="* * * * *", start_ms=2, end_ms=1), "end_at", "before start_at"),
    ],
)
def test_what_cannot_be_a_timing_names_the_field_and_an_example(timing, field, part):
    """Nothing is taken that would never fire."""
    found = why_no_timing(timing)
    assert found is not None
    assert field == found[0]
    assert part in found[1]


@given(st.text(alphabet="0123456789*,-/#L@WRMONDAY ", max_size=30))
def test_a_line_is_refused_or_fires(cron):
    """No text makes anything else of it, such as an exception in a worker."""
    timing = Timing(cron=cron)
    if why_no_timing(timing) is None:
        assert next_instant(timing, 0) is not None
        assert in_words(timing)


@pytest.mark.parametrize(
    ("timing", "words"),
    [
        (berlin("30 6 * * 1-5"), "At 06:30 every weekday, Europe/Berlin"),
        (berlin("@daily"), "At 00:00 every day, Europe/Berlin"),
        (Timing(cron="*/5 * * * *"), "Every fifth minute of every hour, UTC"),
        (Timing(every_ms=1_000), "Every second"),
        (Timing(every_ms=5_400_000), "Every 90 minutes"),
        (Timing(every_ms=DAY_MS), "Every day"),
        (Timing(every_ms=1_500), "Every 1.5 seconds"),
    ],
)
def test_a_timing_in_words(timing, words):
    """What people read on the page and in the CLI."""
    assert words == in_words(timing)


LINES = ["30 2 * * *", "0,20,40 1-3 * * *", "15 */2 * * *", "* * * * *", "*/7 2 * * *", "0 3 * * 0", "5 0 29 2 *"]
NIGHTS = [ms("2027-03-28T01:00"), ms("2027-10-31T01:00")]


@given(
    st.sampled_from(LINES),
    st.sampled_from(NIGHTS),
    st.integers(-6 * HOUR_MS, 6 * HOUR_MS),
    st.integers(0, 3 * HOUR_MS),
)
def test_instants_do_not_depend_on_where_one_begins(cron, night_ms, offset_ms, step_ms):
    """A worker that takes over in the middle of such a night finds the same instants, none twice, none left out."""
    timing = berlin(cron)
    begin_ms = night_ms + offset_ms
    found = next_instant(timing, begin_ms)
    assert found is not None
    assert found > begin_ms
    between_ms = begin_ms + step_ms
    later = next_instant(timing, between_ms)
    assert later is not None
    assert (later == found) if between_ms < found else (later > found)


@given(st.sampled_from(LINES), st.sampled_from(NIGHTS), st.integers(0, 3 * DAY_MS), st.integers(0, 400 * DAY_MS))
def test_the_last_instant_is_one_and_none_follows_it(cron, night_ms, back_ms, forward_ms):
    """However long nothing ran."""
    timing = berlin(cron)
    first = next_instant(timing, night_ms - back_ms)
    assert first is not None
    until_ms = first + forward_ms
    last = last_instant(timing, first, until_ms)
    assert first <= last <= until_ms
    following = next_instant(timing, last)
    assert following is None or following > until_ms


def test_a_minute_of_each_day_fires_once_a_day_for_two_years():
    """730 days, four changes of the clocks, in local days."""
    for cron in ("30 2 * * *", "0 3 * * *", "59 1 * * *"):
        found = next_instants(berlin(cron), ms("2026-12-31T22:59"), 730)
        days = [datetime.fromtimestamp(one / 1_000, BERLIN).date() for one in found]
        assert [days[0] + timedelta(days=number) for number in range(730)] == days
