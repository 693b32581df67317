"""`ebs schedule` against the application itself, without Kafka and a network."""

from __future__ import annotations

import json

import pytest
from plain_names import OBJECTS, SCHEDULES

from app.rules.placement import partition_of
from app.rules.schedules import decode_schedule
from ebs.cli.client import ApiError

PARTITIONS = 4
SET = ("schedule", "set", "nightly", "--cron", "30 6 * * 1-5", "--zone", "Europe/Berlin")


def last(api, name: str = "nightly"):
    """Return the last record of a schedule."""
    value = api.topics.records[SCHEDULES, partition_of(name.encode(), PARTITIONS)][-1].value
    return None if value is None else decode_schedule(value)


def test_a_schedule_is_set_with_all_that_it_can_have(api, ebs):
    """The answer says when it fires, in words, and the next instants."""
    options = [
        "--kind",
        "report",
        "--tasks",
        "2",
        "--object-name",
        "N",
        "--delay",
        "5m",
        "--key",
        "ann",
        "--missed",
        "all",
        "--start",
        "2027-01-01T09:00+01:00",
    ]
    told = ebs(*SET, *options, "--content-json", '{"a": 1}')
    assert 0 == told.exit_code, told.output
    assert "schedule nightly is set" in told.output
    assert "At 06:30 every weekday, Europe/Berlin; next 2027-01-04T06:30:00+01:00" in told.output
    assert "warning: no distribution worker has taken it over yet" in told.output
    found = last(api)
    assert ("report", 2, "N", 300, "ann", "all", b'{"a":1}') == (
        found.kind,
        found.task_count,
        found.object_name,
        found.delay_s,
        found.key,
        found.missed,
        bytes(found.content),
    )


def test_a_period_is_a_duration(api, ebs):
    """As elsewhere on the command line."""
    assert 0 == ebs("schedule", "set", "often", "--every", "10m", "--content", "hello").exit_code
    assert (600, b'"hello"') == (last(api, "often").every_s, bytes(last(api, "often").content))


def test_a_file_has_the_whole_schedule(api, ebs):
    """With items, which no option can have."""
    body = {"every_s": 60, "tasks": [{"content": 1}, {"content": 2}]}
    told = ebs("schedule", "set", "items", "--file", "-", stdin=json.dumps(body).encode())
    assert 0 == told.exit_code, told.output
    assert 2 == len(last(api, "items").items)


def test_the_list_and_one_schedule(ebs):
    """Without a subcommand it is the list; an empty one says how to set one."""
    assert "ebs schedule set nightly" in ebs("schedule").output
    ebs(*SET, "--content-json", '{"a": 1}')
    listed = ebs("schedule", "list").output
    assert "At 06:30 every weekday, Europe/Berlin" in listed
    shown = ebs("schedule", "show", "nightly").output
    assert 5 == shown.count("T06:30:00+01:00")
    assert '{"a": 1}' in shown
    assert r"\n" not in shown
    assert ["nightly"] == [one["name"] for one in json.loads(ebs("schedule", "--json").output)["schedules"]]


def test_pause_run_resume_delete(api, ebs):
    """Each says what it did, and how it is undone."""
    ebs(*SET)
    assert "`ebs schedule resume nightly` undoes it" in ebs("schedule", "pause", "nightly").output
    assert last(api).paused
    assert "shows it" in ebs("schedule", "run", "nightly").output
    assert 1 == sum(len(records) for (topic, _), records in api.topics.records.items() if topic == OBJECTS)
    assert "it fires" in ebs("schedule", "resume", "nightly").output
    assert not last(api).paused
    assert "is deleted" in ebs("schedule", "delete", "nightly").output
    assert last(api) is None


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("set", "x"), "give --cron"),
        (("set", "x", "--cron", "* * * * *", "--every", "1h"), "give --cron"),
        (("set", "x", "--every", "often"), "is not a duration"),
        (("set", "x", "--every", "1h", "--content", "a", "--content-json", "1"), "--content-json"),
        (("set", "x", "--every", "1h", "--delay", "400d"), "more than a year"),
        (("set", "x", "--every", "1h", "--file", "f.json"), "leave out the other options"),
        (("set", "x", "--file", "missing.json"), "cannot be read"),
        (("set", "x", "--every", "1h", "--missed", "some"), "some"),
    ],
)
def test_wrong_usage_is_exit_code_2(ebs, arguments, part):
    """Before anything is asked of the API."""
    told = ebs("schedule", *arguments)
    assert 2 == told.exit_code
    assert part in " ".join(told.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("set", "x", "--cron", "61 * * * *"), 'such as "30 6 * * 1-5"'),
        (("set", "x", "--cron", "* * * * *", "--zone", "Europe/Berln"), 'did you mean "Europe/Berlin"'),
        (("set", "a b", "--every", "1h"), "such as nightly-report"),
        (("run", "nigtly"), "there is no schedule"),
    ],
)
def test_a_refusal_of_the_api_is_one_line(ebs, arguments, part):
    """Exit code 1: it names the field and an example."""
    told = ebs("schedule", *arguments)
    assert 1 == told.exit_code
    assert isinstance(told.exception, ApiError)
    assert part in str(told.exception)
