"""Schedules over HTTP: what they write, what a worker makes of them, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from plain_names import OBJECTS, SCHEDULES, SCHEDULES_CHANGELOG

from api.schedules import schemas
from api.server.schemas import ProblemDocument
from api.submit.schemas import ObjectAccepted
from app.errors import OutcomeUnknown
from app.events import decode_object
from app.rules.placement import partition_of
from app.rules.schedule_rows import ScheduleState, definition_key, encode_state, state_key
from app.rules.schedules import decode_schedule

NOW_MS = 1_795_489_276_303  # 2026-11-24T03:01:16 UTC
PARTITIONS = 4
WEEKDAYS = {"cron": "30 6 * * 1-5", "time_zone": "Europe/Berlin", "kind": "report", "content": {"day": 1.0}}


def put(api, name: str = "nightly", **fields: Any) -> Any:
    """Set a schedule; returns the answer."""
    return api.request("PUT", f"/api/schedules/{name}", json={**WEEKDAYS, **fields})


def take_over(api, name: str = "nightly", state: ScheduleState | None = None) -> None:
    """Do what a worker of distribution does with the last record of a schedule."""
    key, number = name.encode(), partition_of(name.encode(), PARTITIONS)
    value = api.topics.records[SCHEDULES, number][-1].value
    row = None if value is None else encode_state(state or ScheduleState(NOW_MS + 5_000))
    api.topics.write(SCHEDULES_CHANGELOG, number, definition_key(key), value)
    api.topics.write(SCHEDULES_CHANGELOG, number, state_key(key), row)


def test_a_schedule_is_written_under_its_name(api):
    """In the partition of the name; the content stays as it was written."""
    answer = put(api, missed="all", tasks=[{"content": {"n": 1}, "delay_s": 2}], delay_s=60, key="ann")
    accepted = msgspec.convert(answer.json(), schemas.ScheduleAccepted)
    assert (202, False) == (answer.status_code, accepted.seen)
    assert ["no distribution worker has taken it over yet"] == [one.split(":")[0] for one in accepted.warnings]
    (record,) = api.topics.records[SCHEDULES, partition_of(b"nightly", PARTITIONS)]
    schedule = decode_schedule(record.value)
    assert (b"nightly", "nightly", "all", b'{"day":1.0}', 60, "ann", NOW_MS) == (
        record.key,
        schedule.name,
        schedule.missed,
        bytes(schedule.content),
        schedule.delay_s,
        schedule.key,
        schedule.at_ms,
    )


def test_a_schedule_can_be_read_at_once_and_tells_its_next_instants(api):
    """In its own time zone, in words, and from the worker's row once there is one."""
    put(api)
    answer = msgspec.convert(api.get("/api/schedules/nightly").json(), schemas.ScheduleAnswer)
    assert ("NEW", "At 06:30 every weekday, Europe/Berlin") == (answer.state, answer.in_words)
    assert ["2026-11-24T06:30:00+01:00", "2026-11-25T06:30:00+01:00"] == answer.next_instants[:2]
    assert 5 == len(answer.next_instants)
    last_ms = NOW_MS // 1_000 * 1_000
    take_over(api, state=ScheduleState(NOW_MS + 5_000, last_ms, 7))
    answer = msgspec.convert(api.get("/api/schedules/nightly").json(), schemas.ScheduleAnswer)
    assert ("WAITING", NOW_MS + 5_000, last_ms, 7) == (
        answer.state,
        answer.next_at_ms,
        answer.last_at_ms,
        answer.fired_count,
    )
    assert "nightly@2026-11-24T03:01:16Z" == answer.last_object_id
    assert "/api/objects/nightly@2026-11-24T03:01:16Z" == (answer.links.last_object or "").replace("%40", "@").replace(
        "%3A", ":"
    )
    assert {"day": 1.0} == answer.content


def test_a_list_goes_by_name_and_page_by_page(api):
    """Without contents."""
    for name in ("b", "c", "a"):
        put(api, name)
    page = msgspec.convert(api.get("/api/schedules?limit=2").json(), schemas.SchedulePage)
    assert (["a", "b"], "b") == ([one.name for one in page.schedules], page.next_cursor)
    page = msgspec.convert(api.get("/api/schedules?limit=2&cursor=b").json(), schemas.SchedulePage)
    assert (["c"], None) == ([one.name for one in page.schedules], page.next_cursor)
    assert "content" not in api.get("/api/schedules").json()["schedules"][0]


@pytest.mark.parametrize(("act", "paused", "state"), [("pause", True, "PAUSED"), ("resume", False, "WAITING")])
def test_pause_and_resume_keep_everything_else(api, act, paused, state):
    """What was set is written again."""
    put(api, paused=not paused)
    take_over(api)
    answer = api.post(f"/api/schedules/nightly/{act}")
    assert 202 == answer.status_code
    schedule = decode_schedule(api.topics.records[SCHEDULES, partition_of(b"nightly", PARTITIONS)][-1].value)
    assert (paused, "report", b'{"day":1.0}') == (schedule.paused, schedule.kind, bytes(schedule.content))
    take_over(api, state=ScheduleState(None if paused else NOW_MS + 1))
    found = api.get("/api/schedules/nightly").json()
    assert (state, [] if paused else 5) == (found["state"], found["next_instants"] and len(found["next_instants"]))


def test_a_deleted_schedule_is_gone_at_once(api):
    """Also before a worker has deleted its rows, and after it."""
    put(api)
    take_over(api)
    answer = api.request("DELETE", "/api/schedules/nightly")
    assert (202, None) == (answer.status_code, answer.json()["schedule"])
    assert 404 == api.get("/api/schedules/nightly").status_code
    take_over(api)
    assert 404 == api.get("/api/schedules/nightly").status_code
    assert [] == api.get("/api/schedules").json()["schedules"]
    put(api)
    assert 200 == api.get("/api/schedules/nightly").status_code


def test_a_restart_knows_the_same_schedules(make_api):
    """From the store of the view."""
    first = make_api()
    put(first, "kept")
    put(first, "gone")
    take_over(first, "gone")
    first.request("DELETE", "/api/schedules/gone")
    first.view.schedules.load(first.view._store)
    assert ["kept"] == first.view.schedules.names()
    assert not first.view.schedules.is_taken("gone")


def test_run_submits_the_object_now(api):
    """Also of a paused schedule; with a key it is safe to repeat."""
    put(api, paused=True, tasks=2)
    answers = [api.post("/api/schedules/nightly/run", headers={"Idempotency-Key": '"k"'}) for _ in range(2)]
    ids = {msgspec.convert(one.json(), ObjectAccepted).id for one in answers}
    assert ([202, 202], 1) == ([one.status_code for one in answers], len(ids))
    (object_id,) = ids
    record = api.topics.records[OBJECTS, partition_of(object_id.encode(), PARTITIONS)][-1]
    event = decode_object(record.value)
    assert ("nightly", "report", 2, b'{"day":1.0}') == (event.name, event.kind, event.task_count, bytes(event.content))


@pytest.mark.parametrize(
    ("fields", "pointer", "part"),
    [
        ({"cron": "61 6 * * *"}, "#/cron", 'such as "30 6 * * 1-5"'),
        ({"cron": "0 0 31 2 *"}, "#/cron", "bad day-of-month"),
        ({"every_s": 5}, "#/cron", "not both"),
        ({"time_zone": "Europe/Berln"}, "#/time_zone", 'did you mean "Europe/Berlin"'),
        ({"time_zone": ""}, "#/time_zone", "such as Europe/Berlin"),
        ({"kind": "a b"}, "#/kind", "regex"),
        ({"missed": "some"}, "#/missed", "some"),
        ({"tasks": 0}, "#/tasks", ">= 1"),
        ({"tasks": []}, "#/tasks", "at least one item"),
        ({"tasks": [{"due_at": "2027-01-01T09:00:00Z"}]}, "#/tasks/0/due_at", "delay_s"),
        ({"start_at": "2027-01-01T09:00:00"}, "#/start_at", "timezone"),
        ({"start_at": "2027-01-02T09:00:00Z", "end_at": "2027-01-01T09:00:00Z"}, "#/end_at", "before start_at"),
        ({"delay_s": -1}, "#/delay_s", ">= 0"),
        ({"callback_url": "https://evil.example/"}, "#/callback_url", "EBS_WEBHOOK_HOSTS"),
        ({"timezone": "UTC"}, "#/timezone", "Unknown field"),
        ({"due_at": "2027-01-01T09:00:00Z"}, "#/due_at", "Unknown field"),
    ],
)
def test_what_cannot_be_a_schedule_names_the_field(api, fields, pointer, part):
    """And what to write instead; nothing is stored."""
    answer = put(api, **fields)
    problem = msgspec.convert(answer.json(), ProblemDocument)
    assert 422 == answer.status_code, answer.text
    assert pointer in [one.pointer for one in problem.errors or []]
    assert part in answer.text.replace('\\"', '"')
    assert not any(topic == SCHEDULES for topic, _ in api.topics.records)


def test_an_empty_body_is_no_schedule(api):
    """It needs to say when."""
    answer = api.request("PUT", "/api/schedules/nightly")
    assert (422, "#/cron") == (answer.status_code, answer.json()["errors"][0]["pointer"])


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 65])
def test_a_name_is_like_a_kind(api, name):
    """It is part of ids and keys."""
    answer = put(api, name)
    assert 422 == answer.status_code
    assert "such as nightly-report" in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/run")],
)
def test_an_unknown_schedule_offers_the_known_ones(api, method, path):
    """A typing error must not go unnoticed."""
    put(api)
    answer = api.request(method, f"/api/schedules/nigtly{path}")
    assert 404 == answer.status_code
    assert 'did you mean "nightly"' in json.dumps(answer.json()).replace('\\"', '"')


def test_a_content_that_is_too_large_is_a_413(api):
    """As for an object."""
    assert 413 == put(api, content="x" * 1_000_000).status_code


def test_an_unknown_outcome_says_that_repeating_is_safe(api):
    """A record of the same name changes nothing."""
    api.topics.failure = OutcomeUnknown("no answer")
    answer = put(api)
    assert (503, True) == (answer.status_code, answer.json()["safe_to_repeat"])


def test_a_record_of_another_program_is_passed_over(api):
    """As distribution does, which puts it into the dead letters."""
    put(api)
    number = partition_of(b"nightly", PARTITIONS)
    api.topics.write(SCHEDULES, number, b"nightly", b"junk")
    api.topics.write(SCHEDULES, number, b"\xff", None)
    api.topics.write(SCHEDULES, number, None, None)
    assert 200 == api.get("/api/schedules/nightly").status_code


def test_a_key_that_reads_cannot_set(guarded):
    """As everywhere."""
    from guarded_api import READ  # noqa: PLC0415

    headers = {"authorization": f"Bearer {READ}"}
    assert 200 == guarded.request("GET", "/api/schedules", headers=headers).status_code
    assert 403 == guarded.request("PUT", "/api/schedules/a", json=WEEKDAYS, headers=headers).status_code
