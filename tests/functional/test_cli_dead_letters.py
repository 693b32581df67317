"""`ebs dead-letters`, `ebs redrive` and `ebs discard` against the application itself, without Kafka and a network."""

from __future__ import annotations

import json

import pytest
from grave import NOW_MS, PATH, Grave, state_of, until_ended
from plain_names import OBJECTS, TASK_REQUESTS

from app import json_text
from app.errors import RecordRefused
from app.events import decode_task_request
from app.rules.fingerprint import fingerprint
from ebs.cli.client import ApiError

GROUP = fingerprint("ValueError", "no user 1")


@pytest.fixture
def grave(api) -> Grave:
    """Return a grave for the API's topics."""
    return Grave(api.topics)


def test_dead_letters_are_listed(ebs, grave):
    """The list shows the dead ones unless told otherwise; without a subcommand it is the same."""
    first, second = grave.bury_task(1), grave.bury_task(2, KeyError("x"))
    ebs("discard", second, "--reason", "old")
    shown = ebs("dead-letters", "ls")
    assert (0, True, False) == (shown.exit_code, first in shown.stdout, second in shown.stdout)
    assert "ValueError: no user 1" in shown.stdout
    assert shown.stdout == ebs("dead-letters").stdout
    assert second in ebs("dead-letters", "ls", "--state", "discarded").stdout
    every = json.loads(ebs("dead-letters", "ls", "--state", "all", "--json").stdout)
    assert {first, second} == {letter["id"] for letter in every["dead_letters"]}


def test_conditions_and_pages_reach_the_api(ebs, grave):
    """Options are the API's conditions; the next page is a cursor away."""
    for number in range(3):
        grave.bury_task(number, at_ms=NOW_MS + number, kind=f"k{number}")

    def ids(*options: str) -> list[str]:
        return [one["id"] for one in json.loads(ebs("dead-letters", "ls", "--json", *options).stdout)["dead_letters"]]

    assert ["1-1"] == ids("--kind", "k1")
    assert ["1-2"] == ids("--error", "user 2")
    assert ["1-2", "1-1", "1-0"] == ids("--fingerprint", GROUP, "--topic", TASK_REQUESTS)
    assert ["1-2"] == ids("--object", "o2")
    assert [] == ids("--object", "o")
    assert ["1-1"] == ids("--since", str(NOW_MS + 1), "--before", str(NOW_MS + 2))
    page = ebs("dead-letters", "ls", "--limit", "2")
    cursor = page.stderr.split("--cursor ")[1].strip()
    assert ["1-0"] == ids("--cursor", cursor)


def test_groups_know_no_object(ebs, grave):
    """A group has the letters of many: the answer says so instead of showing groups without a letter of the object."""
    grave.bury_task(1)
    refused = ebs("dead-letters", "groups", "--object", "o1")
    assert (1, True) == (refused.exit_code, "leave out object_id, or group_by" in str(refused.exception))


def test_groups_are_listed(ebs, grave):
    """One line an error, with its counts."""
    grave.bury_task(1)
    grave.bury_task(2, kind="sms")
    shown = ebs("dead-letters", "groups")
    assert (0, True) == (shown.exit_code, "mail 1, sms 1" in shown.stdout)
    (group,) = json.loads(ebs("dead-letters", "groups", "--json").stdout)["groups"]
    assert (GROUP, 2) == (group["fingerprint"], group["count"])


def test_one_letter_is_shown(ebs, grave):
    """Value, headers, stack trace and acts are there, whatever the bytes are."""
    letter_id = grave.bury_task(1)
    ebs("discard", letter_id, "--reason", "[old] news")
    shown = ebs("dead-letters", "show", letter_id).stdout
    for expected in ('"task_id": "o1-0"', "kafka_dlt-original-topic", "ValueError: no user 1", "[old] news"):
        assert expected in shown
    other = grave.bury(b"\xff{", ValueError("bad"), topic=OBJECTS)
    assert "2 bytes, no JSON" in ebs("dead-letters", "show", other).stdout
    assert "(empty)" in ebs("dead-letters", "show", grave.bury(None, ValueError("bad"), topic=OBJECTS)).stdout
    assert letter_id == json.loads(ebs("dead-letters", "show", letter_id, "--json").stdout)["id"]


def test_one_letter_is_redriven_and_another_one_edited(ebs, api, grave):
    """An id redrives one letter, with a payload as it was edited."""
    first, second = grave.bury_task(1), grave.bury_task(2)
    assert f"{first} is redriven: task o1-0\n" == ebs("redrive", first).stdout
    answer = ebs("redrive", second, "--payload", '{"content": "better"}', "--json")
    assert "REDRIVEN" == json.loads(answer.stdout)["state"]
    requests = [decode_task_request(record.value) for record in grave.written(TASK_REQUESTS)]
    assert ["c", "better"] == [json_text.decode(request.content) for request in requests]
    assert {"REDRIVEN"} == {state_of(api, letter_id) for letter_id in (first, second)}


def test_many_are_counted_and_then_redriven(ebs, grave):
    """A dry run only counts; the real one waits for its end and says what became of it."""
    for number in range(4):
        grave.bury_task(number)
    spent = grave.bury_task(9, redrive=3)
    counted = ebs("redrive", "--fingerprint", GROUP, "--dry-run")
    assert (0, "letters that would be redriven: 4; 1 more have reached the limit of redrives\n") == (
        counted.exit_code,
        counted.stdout,
    )
    assert [] == grave.written(TASK_REQUESTS)
    done = ebs("redrive", "--fingerprint", GROUP, "--kind", "mail", "--before", "2100-01-01", "--rate", "1000")
    assert 0 == done.exit_code
    assert done.stdout.startswith(
        f"done: 4 redriven, 1 refused, 0 skipped\n{spent}: task o9-0 has been redriven 3 times"
    )
    assert 0 == json.loads(ebs("redrive", "--all", "--json").stdout)["redriven_count"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["redrive", "1-0"],
        ["redrive", "9-9"],
        ["discard", "1-0", "--reason", "x"],
        ["dead-letters", "show", "9-9"],
        ["dead-letters", "ls", "--kind", "a b"],
        ["dead-letters", "groups", "--fingerprint", "x"],
    ],
)
def test_what_the_api_refuses_is_an_error(ebs, grave, arguments):
    """A refusal is one sentence, which the command turns into exit code 1."""
    ebs("redrive", grave.bury_task(1))
    failed = ebs(*arguments)
    assert (1, True) == (failed.exit_code, isinstance(failed.exception, ApiError))


def test_redrives_of_many_are_listed_and_cancelled(ebs, api, grave):
    """What each was for and how far it is; one that is under way ends, one that has ended stays as it is."""
    assert "there was none\n" == ebs("dead-letters", "redrives").stdout
    grave.bury_task(1)
    assert 0 == ebs("redrive", "--kind", "mail").exit_code
    shown = ebs("dead-letters", "redrives").stdout
    assert ["DONE", "kind mail"] == [words for words in ("DONE", "kind mail") if words in shown]
    (run,) = json.loads(ebs("dead-letters", "redrives", "--json").stdout)["redrives"]
    assert f"redrive {run['id']} is done; letters redriven: 1\n" == ebs("redrive", "--cancel", run["id"]).stdout
    for number in range(2, 9):
        grave.bury_task(number)
    run = api.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 1}).json()
    cancelled = ebs("redrive", "--cancel", run["id"])
    assert (0, True) == (cancelled.exit_code, f"redrive {run['id']} stops after its current chunk" in cancelled.stdout)
    assert "CANCELLED" == until_ended(api, run["links"]["self"])["state"]
    assert 1 == ebs("redrive", "--cancel", "x").exit_code


def test_nothing_found_is_said(ebs):
    """Instead of an empty table."""
    for what in ("ls", "groups"):
        assert "no dead letter matches\n" == ebs("dead-letters", what).stdout


def test_run_that_fails_is_an_error_after_its_counts(ebs, api, grave):
    """A run that the broker ended says what it did and why it stopped."""
    grave.bury_task(1)
    api.topics.commit_failures = [None, RecordRefused("the broker refused it")]
    failed = ebs("redrive", "--all")
    assert "failed: 0 redriven, 0 refused, 0 skipped\n" == failed.stdout
    assert (1, True) == (failed.exit_code, "the broker refused it" in str(failed.exception))
    assert "DEAD" == api.get(f"{PATH}/1-0").json()["state"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["redrive"],
        ["redrive", "1-0", "--all"],
        ["redrive", "1-0", "--kind", "mail"],
        ["redrive", "1-0", "--dry-run"],
        ["redrive", "1-0", "--rate", "3"],
        ["redrive", "1-0", "--payload", "{"],
        ["redrive", "--all", "--payload", "{}"],
        ["redrive", "--all", "--rate", "0"],
        ["redrive", "--all", "--cancel", "x"],
        ["redrive", "1-0", "--cancel", "x"],
        ["redrive", "--before", "yesterday"],
        ["discard", "1-0"],
        ["discard"],
        ["dead-letters", "ls", "--state", "gone"],
        ["dead-letters", "ls", "--limit", "0"],
        ["dead-letters", "show"],
        ["dead-letters", "what"],
    ],
)
def test_wrong_usage_exits_with_2(ebs, grave, arguments):
    """Usage errors are told apart from failures by their exit code, and nothing is done."""
    grave.bury_task(1)
    assert 2 == ebs(*arguments).exit_code
    assert [] == grave.written(TASK_REQUESTS)
