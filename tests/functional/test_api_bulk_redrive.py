"""Many dead letters redriven by a filter over HTTP; without Kafka."""

from __future__ import annotations

import asyncio
import time

import pytest
from fakes import settle, until
from grave import NOW_MS, PATH, Grave, listed_ids, refusal_of, run_to_end, state_of, until_shown
from plain_names import DEAD_LETTERS, OBJECTS, TASK_EVENTS, TASK_REQUESTS

from api.redrive.bulk_redrive import BulkRedriver
from api.redrive.redrive_run import Patience
from app.errors import BrokerUnavailable, OutcomeUnknown, RecordRefused
from app.events import JOIN_SEQUENCE, decode_task_event, decode_task_request, encode
from app.rules.fingerprint import fingerprint
from app.rules.letter_acts import LetterAct, LetterId, LetterState, act_record
from app.rules.letter_filter import LetterFilter
from app.rules.redrive import RedrivePolicy
from app.rules.redrive_runs import read_run_progress


@pytest.fixture
def grave(api) -> Grave:
    """Return a grave for the API's topics."""
    return Grave(api.topics)


def test_many_are_redriven_by_a_filter(api, grave):
    """Only the dead letters that are meant go back, each once; one at its limit is refused and told."""
    for number in range(30):
        grave.bury_task(number, partition=number % 4)
    other = grave.bury_task(90, KeyError("x"))
    spent = grave.bury_task(91, redrive=3)
    api.request("DELETE", f"{PATH}/{grave.ids[0]}?reason=old")
    group = fingerprint("ValueError", "no user 1")
    counted = api.post(f"{PATH}/redrive", json={"fingerprint": group, "dry_run": True})
    assert (200, True, 29, 1) == (
        counted.status_code,
        *(counted.json()[key] for key in ("dry_run", "count", "at_limit_count")),
    )
    assert 20 == len(counted.json()["ids"])
    assert [] == grave.written(TASK_REQUESTS)
    run = run_to_end(api, api.post(f"{PATH}/redrive", json={"fingerprint": group}))
    assert ("DONE", 29, 1, 0, None) == tuple(
        run[key] for key in ("state", "redriven_count", "refused_count", "skipped_count", "error")
    )
    assert [spent] == [refused["id"] for refused in run["refused"]]
    ids = sorted(decode_task_request(record.value).id for record in grave.written(TASK_REQUESTS))
    assert sorted(f"c-o{number}-0-r1" for number in range(1, 30)) == ids
    assert ids == sorted(decode_task_event(record.value).id for record in grave.written(TASK_EVENTS))
    assert ("DEAD", "DEAD", "DISCARDED") == tuple(state_of(api, one) for one in (other, spent, grave.ids[0]))
    assert 29 == len(listed_ids(api, "?state=REDRIVEN"))
    assert "redrive " + run["id"] in api.get(f"{PATH}/{grave.ids[1]}").json()["acts"][0]["by"]
    assert 0 == run_to_end(api, api.post(f"{PATH}/redrive", json={"fingerprint": group}))["redriven_count"]
    assert [0, 29] == [one["redriven_count"] for one in api.get(f"{PATH}/redrives").json()["redrives"]]


CONTRADICTIONS = {
    "beyond its tasks": ({"sequence": 1}, "sequence 1, counted from 0, of 1 task."),
    "a number with a role": ({"role": "split"}, "sequence 0 has the role 'split'."),
    "a join without its role": ({"sequence": JOIN_SEQUENCE}, "sequence 10001 has the role 'task'."),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_letter_that_contradicts_itself_is_refused_by_itself(api, grave, name):
    """The others of its run go back; it is told why, also to somebody who redrives it alone."""
    changes, reason = CONTRADICTIONS[name]
    grave.bury_task(0)
    bad = grave.bury_task(1, **changes)
    grave.bury_task(2)
    run = run_to_end(api, api.post(f"{PATH}/redrive", json={"kind": "mail"}))
    assert ("DONE", 2, 1) == tuple(run[key] for key in ("state", "redriven_count", "refused_count"))
    (refused,) = run["refused"]
    assert bad == refused["id"]
    assert f"its request contradicts itself: {reason}" in refused["reason"]
    alone = api.post(f"{PATH}/{bad}/redrive")
    assert (409, "not-redrivable") == refusal_of(alone)
    assert refused["reason"] == alone.json()["detail"]


def test_letter_that_nobody_thought_of_is_refused_by_itself(api, grave, monkeypatch):
    """A fault in the planning of one letter is told with it, and does not end the run."""
    bad = grave.bury_task(0)
    grave.bury_task(1)
    plan = RedrivePolicy.plan

    def fail_for_one(policy, letter, **options):
        if b"o0-0" in letter.value:
            raise ZeroDivisionError("unforeseen")
        return plan(policy, letter, **options)

    monkeypatch.setattr(RedrivePolicy, "plan", fail_for_one)
    run = run_to_end(api, api.post(f"{PATH}/redrive", json={"kind": "mail"}))
    assert ("DONE", 1) == (run["state"], run["redriven_count"])
    assert [{"id": bad, "reason": "it cannot be redriven: ZeroDivisionError: unforeseen"}] == run["refused"]


def test_letters_of_one_object_are_redriven(api, grave):
    """And no others, whatever else they have in common."""
    for number in range(4):
        grave.bury_task(number)
    run = run_to_end(api, api.post(f"{PATH}/redrive", json={"object_id": "o2", "kind": "mail"}))
    assert (1, {"object_id": "o2", "kind": "mail"}) == (run["redriven_count"], run["filter"])
    assert ["c-o2-0-r1"] == [decode_task_request(record.value).id for record in grave.written(TASK_REQUESTS)]
    assert 422 == api.post(f"{PATH}/redrive", json={"object_id": ""}).status_code


def test_many_are_written_in_chunks(api, grave):
    """Each chunk is one commit: requests, facts, acts, and the record that counts them."""
    api.topics.deliver_at_once = False
    for number in range(1_200):
        grave.bury_task(number)
    grave.bury(b"{", ValueError("bad"), topic=OBJECTS)
    api.topics.deliver()
    api.topics.deliver_at_once = True
    assert 1_201 == run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))["redriven_count"]
    counts = [
        tuple(map(commit.count, (OBJECTS, TASK_REQUESTS, TASK_EVENTS, DEAD_LETTERS))) for commit in grave.commits()
    ]
    assert [(0, 0, 0, 1), (1, 499, 499, 501), (0, 500, 500, 501), (0, 201, 201, 202), (0, 0, 0, 1)] == counts
    told = [read_run_progress(record.value) for record in api.topics.records[DEAD_LETTERS, 0]]
    assert [0, 500, 1_000, 1_201, 1_201] == [progress.redriven_count for progress in told]
    assert [1, 2, 3, 4, 5] == [progress.number for progress in told]


def test_letters_that_die_meanwhile_are_not_part_of_it(api, grave):
    """A task that dies again at once is not redriven again by the same run: it would use up its limit in seconds."""
    for number in range(10):
        grave.bury_task(number)
    first = api.topics.publish_to

    async def publish_and_die(records):
        ends = await first(records)
        for task in [decode_task_request(one.value) for one in records if one.topic == TASK_REQUESTS]:
            grave.bury(encode(task), ValueError("again"), task=task, at_ms=NOW_MS + 1)
        return ends

    api.topics.publish_to = publish_and_die
    assert 10 == run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))["redriven_count"]
    assert 10 == len(listed_ids(api, "?state=DEAD"))


def test_one_run_at_a_time_and_it_can_be_cancelled(api, grave):
    """A second run is a conflict that names the first; a cancelled one ends at once, wherever it waits."""
    for number in range(50):
        grave.bury_task(number)
    started = api.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 0.01})
    second = api.post(f"{PATH}/redrive", json={"all": True})
    assert (409, "redrive-under-way", started.json()["id"]) == (*refusal_of(second), second.json()["id"])
    cancelled = api.request("DELETE", started.headers["location"])
    assert 202 == cancelled.status_code
    run = run_to_end(api, started)
    assert "CANCELLED" == run["state"]
    assert run["redriven_count"] == len(listed_ids(api, "?state=REDRIVEN")) <= 1
    again = run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))
    assert 50 - run["redriven_count"] == again["redriven_count"]


def test_rate_is_a_cap(api, grave):
    """At 96 a second, of which ten make a write, the fourth write is 0.312 s after the first, and nothing between them.

    The times that are due lie a third of a millisecond after a whole one: uvloop's waits end before them.
    """
    for number in range(31):
        grave.bury_task(number)
    began_at_s = time.monotonic()
    run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 96}))
    assert 0.3 < time.monotonic() - began_at_s
    assert [0, 10, 10, 10, 1, 0] == [commit.count(TASK_REQUESTS) for commit in grave.commits()]


@pytest.mark.parametrize("came_through", [False, True])
def test_run_waits_over_a_broker_that_is_away_for_a_moment(api, grave, came_through):
    """A chunk of unknown outcome is written once and counted once, whatever became of it the first time."""
    grave.bury(b"{", ValueError("bad"), topic=OBJECTS)
    api.topics.commit_failures = [None, *[OutcomeUnknown("not confirmed")] * (1 if came_through else 2)]
    api.topics.commit_then_fail = came_through
    run = run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))
    assert ("DONE", 1, 0, None) == (run["state"], run["redriven_count"], run["skipped_count"], run["error"])
    assert [[DEAD_LETTERS], [OBJECTS, DEAD_LETTERS, DEAD_LETTERS], [DEAD_LETTERS]] == grave.commits()


def test_run_that_the_broker_refuses_fails_with_the_reason(api, grave):
    """What will never be taken ends the run, which says so; the letters are dead as before."""
    grave.bury_task(1)
    api.topics.commit_failures = [None, RecordRefused("the broker refused it")]
    run = run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))
    assert ("FAILED", 0) == (run["state"], run["redriven_count"])
    assert "the broker refused it" in run["error"]
    assert "DEAD" == state_of(api, grave.ids[0])


def test_redrive_of_a_letter_that_a_run_is_writing_waits_and_gets_the_reason(api, grave):
    """The act of the run comes first; the one who asked meanwhile hears that it is redriven, and it is written once."""
    letter_id = grave.bury_task(1)
    gate = asyncio.Event()
    commit = api.topics.commit

    async def commit_late(records):
        if len(records) > 1:
            await gate.wait()
        return await commit(records)

    api.topics.commit = commit_late

    async def scenario():
        started = await api.client.post(f"{PATH}/redrive", json={"all": True})
        single = asyncio.create_task(api.client.post(f"{PATH}/{letter_id}/redrive"))
        await settle()
        gate.set()
        return started, await single

    started, single = api.run(scenario())
    assert (409, "letter-redriven") == refusal_of(single)
    assert 1 == run_to_end(api, started)["redriven_count"]
    assert 1 == len(grave.written(TASK_REQUESTS))


def test_letter_that_is_discarded_meanwhile_is_skipped(api, grave):
    """What was found dead is looked at again right before it is written."""
    for number in range(3):
        grave.bury_task(number, at_ms=NOW_MS + number)
    commit = api.topics.commit
    discard = act_record(DEAD_LETTERS, LetterId(1, 0), LetterState.DISCARDED, LetterAct(NOW_MS, "elsewhere", "old"))

    async def commit_and_discard(records):
        ends = await commit(records)
        if len(api.topics.commits) == 2:  # the run's begin, and its first letter
            api.topics.write(*discard[:4], headers=tuple(discard.headers))
        return ends

    api.topics.commit = commit_and_discard
    run = run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 10}))
    assert ("DONE", 2, 1) == (run["state"], run["redriven_count"], run["skipped_count"])
    assert "DISCARDED" == state_of(api, grave.ids[0])


def test_run_has_ended_when_the_view_knows_of_it(make_api):
    """Who hears that a run is done finds its letters redriven."""
    api = make_api(view_wait_s=30)
    Grave(api.topics).bury_task(1)

    async def scenario():
        asked = await api.client.post(f"{PATH}/redrive", json={"all": True})
        api.topics.deliver_at_once = False
        await until(lambda: len(api.topics.records[DEAD_LETTERS, 1]) == 2)
        await settle()
        before = (await api.client.get(asked.headers["location"])).json()["state"]
        api.topics.deliver()
        await until(lambda: len(api.topics.commits) == 3)
        await settle()
        between = (await api.client.get(asked.headers["location"])).json()["state"]
        api.topics.deliver()
        await settle()
        return before, between, (await api.client.get(asked.headers["location"])).json()["state"]

    assert ("RUNNING", "RUNNING", "DONE") == api.run(scenario())


def test_large_letters_are_written_few_at_a_time(api, grave):
    """A chunk is bounded by its bytes too, so a run of large letters does not need their sum in memory."""
    for number in range(9):
        grave.bury_task(number, content="x" * 1_000_000)
    assert 9 == run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))["redriven_count"]
    assert [0, 5, 4, 0] == [commit.count(TASK_REQUESTS) for commit in grave.commits()]


def test_cancelled_run_does_not_wait_for_a_broker_that_is_away(api, grave):
    """One who cancels while nothing can be written has his answer soon, and the reason."""
    grave.bury_task(1)
    api.topics.commit_failures = [None, *[OutcomeUnknown("not confirmed")] * 1_000]
    started = api.post(f"{PATH}/redrive", json={"all": True})
    until_shown(api, started.headers["location"], lambda run: run["error"] is not None)
    api.request("DELETE", started.headers["location"])
    run = run_to_end(api, started)
    assert ("FAILED", 0) == (run["state"], run["redriven_count"])
    assert len(api.topics.commit_failures) > 990
    # It could not write that it ended; who asks again need not wait until it counts as silent.
    api.topics.commit_failures = []
    assert 1 == run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))["redriven_count"]
    assert [1, 0] == [one["redriven_count"] for one in api.get(f"{PATH}/redrives").json()["redrives"]]


def test_run_gives_up_on_a_broker_that_stays_away(api, grave):
    """A run does not wait for ever: it fails, and the same request goes on where it ended."""
    grave.bury_task(1)
    parts = api.app.state.collaborators
    impatient = BulkRedriver(parts.redriver, api.view, lambda: NOW_MS, Patience(broker_away_s=0))
    api.topics.commit_failures = [None, *[BrokerUnavailable("away")] * 1_000]

    async def scenario():
        run = await impatient.start(LetterFilter(), None, "me")
        await asyncio.wait([impatient._task])
        return impatient.find(run.run_id)

    run = api.run(scenario())
    assert ("FAILED", "away; send the same request again to continue") == (run.state, run.error)
    assert 998 == len(api.topics.commit_failures)  # the chunk's, and the end's


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#"),
        ({"dry_run": True}, "#"),
        ({"all": "yes"}, "#/all"),
        ({"kind": "a b"}, "#/kind"),
        ({"finger": "x"}, "#/finger"),
        ({"all": True, "rate_per_s": 0}, "#/rate_per_s"),
        ({"all": True, "rate_per_s": "fast"}, "#/rate_per_s"),
        ({"before_ms": -1}, "#/before_ms"),
    ],
)
def test_wrong_filter_is_a_422(api, grave, body, pointer):
    """Nobody redrives everything by a typo."""
    grave.bury_task(1)
    answer = api.post(f"{PATH}/redrive", json=body)
    assert (422, [pointer]) == (answer.status_code, [error["pointer"] for error in answer.json()["errors"]])
    assert [] == api.topics.commits


def test_unknown_run_is_a_404(api):
    """A run that no process knows cannot be followed nor cancelled."""
    assert (404, "not-found") == refusal_of(api.get(f"{PATH}/redrives/x"))
    assert (404, "not-found") == refusal_of(api.request("DELETE", f"{PATH}/redrives/x"))


def test_end_of_the_process_ends_the_run(api, grave):
    """A server that stops waits for the chunk in hand and not for a run of hours, and says why the run ended."""
    for number in range(10):
        grave.bury_task(number)

    async def scenario():
        async with api.app.router.lifespan_context(api.app):
            started = await api.client.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 0.01})
            await until(lambda: len(api.topics.commits) == 2)
            await settle()  # it waits for its rate now
        return started

    run = api.get(api.run(scenario()).headers["location"]).json()
    assert ("INTERRUPTED", 1) == (run["state"], run["redriven_count"])
    assert "its API process was stopped; send the same request again to continue" == run["error"]
