"""The page of the schedules and its forms, as a browser without JavaScript has them."""

from __future__ import annotations

import pytest
from browsing import PageSeen, browse, send_form
from plain_names import OBJECTS, SCHEDULES

from app.rules.placement import partition_of
from app.rules.schedules import decode_schedule

PARTITIONS = 4
FIELDS = {"name": "nightly", "cron": "30 6 * * 1-5", "time_zone": "Europe/Berlin", "kind": "report", "missed": "all"}


def last(api):
    """Return the last record of the schedule."""
    value = api.topics.records[SCHEDULES, partition_of(b"nightly", PARTITIONS)][-1].value
    return None if value is None else decode_schedule(value)


def test_an_empty_page_says_what_a_schedule_is(api):
    """And how to set one."""
    seen = browse(api, "/schedules")
    assert (200, True) == (seen.status, "ebs schedule set" in seen.text)


def test_a_schedule_is_set_and_shown_in_words(api):
    """With the next five instants in its own time zone."""
    answer = send_form(api, "/schedules", {**FIELDS, "tasks": "2", "content": '{"a": 1}', "json": "1"})
    assert (303, "/schedules") == (answer.status_code, answer.headers["location"])
    assert ("report", 2, b'{"a":1}', "all") == (
        last(api).kind,
        last(api).task_count,
        bytes(last(api).content),
        last(api).missed,
    )
    seen = browse(api, "/schedules")
    assert "Schedule nightly is set. It fires: At 06:30 every weekday, Europe/Berlin" in seen.text
    assert "At 06:30 every weekday, Europe/Berlin" in seen.text
    assert 5 <= seen.html.count('title="2026-1')
    assert "2026-11-24\xa006:30:00" in seen.html.replace("&nbsp;", "\xa0")


def test_a_schedule_may_begin_and_end_and_have_items(api):
    """As in the API: each line is a task."""
    more = {
        "start_at": "2027-01-01T09:00:00Z",
        "end_at": "2027-02-01T09:00:00+01:00",
        "object_name": "reports",
        "key": "ann",
    }
    send_form(api, "/schedules", {**FIELDS, **more, "items": '{"of": "shop"}\r\n{"of": "bank"}\r\n', "json": "1"})
    found = last(api)
    assert ["2027-01-01T09:00:00+00:00", "2027-02-01T09:00:00+01:00"] == [
        found.start_at.isoformat(),
        found.end_at.isoformat(),
    ]
    assert ("reports", "ann", [b'{"of":"shop"}', b'{"of":"bank"}']) == (
        found.object_name,
        found.key,
        [bytes(item.content) for item in found.items],
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cron": "61 6 * * *"}, "bad minute"),
        ({"cron": ""}, "or every_s"),
        ({"start_at": "tomorrow"}, "start_at"),
        ({"items": "a", "tasks": "3"}, "Give a number of tasks, or items"),
        ({"time_zone": "Europe/Berln"}, "Europe/Berlin"),
        ({"content": "{", "json": "1"}, "The content is not JSON"),
        ({"name": "a b"}, "such as nightly-report"),
        ({"name": ""}, "required field is empty"),
    ],
)
def test_a_refused_form_says_why_and_keeps_what_was_typed(api, fields, said):
    """422, and nothing is stored."""
    seen = PageSeen(send_form(api, "/schedules", {**FIELDS, **fields}))
    assert 422 == seen.status
    assert said in seen.text
    assert {**FIELDS, **fields}["kind"] == seen.element("f-kind").get("value")
    assert not any(topic == SCHEDULES for topic, _ in api.topics.records)


def test_the_buttons_pause_resume_run_and_delete(api):
    """Each leads to where its effect can be seen."""
    send_form(api, "/schedules", FIELDS)
    send_form(api, "/schedules/nightly/pause", {})
    assert last(api).paused
    assert "/schedules/nightly/resume" in browse(api, "/schedules").html
    send_form(api, "/schedules/nightly/resume", {})
    assert not last(api).paused
    place = send_form(api, "/schedules/nightly/run", {}).headers["location"]
    assert place.startswith("/objects/")
    assert 1 == sum(len(log) for (topic, _), log in api.topics.records.items() if topic == OBJECTS)
    send_form(api, "/schedules/nightly/delete", {})
    assert last(api) is None
