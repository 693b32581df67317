"""Many dead letters redriven by a filter over HTTP; without Kafka."""

from __future__ import annotations

import asyncio
import time

import pytest
from fakes import settle, until
from grave import NOW_MS, PATH, Grave, listed_ids, refusal_of, state_of

from api import dead_letter_schemas as schemas
from api.submit.bulk_redrive import BulkRedriver
from api.view.dead_letter_filter import Filter
from app.errors import BrokerUnavailable, OutcomeUnknown, RecordRefused
from app.events import decode_task_event, decode_task_request, encode
from app.rules.acts import LetterId
from app.rules.fingerprint import fingerprint
from app.topics import DEAD_LETTERS, OBJECTS, TASK_EVENTS, TASK_REQUESTS


@pytest.fixture
def grave(api) -> Grave:
    """Return a grave for the API's topics."""
    return Grave(api.topics)


def run_to_end(api, answer) -> dict:
    """Return a run once it has ended."""
    assert 202 == answer.status_code, answer.text
    while (run := api.get(answer.headers["location"]).json())["state"] == "RUNNING":
        pass
    schemas.RunAnswer.model_validate(run)
    return run


def wait_for_count(api, answer, count: int) -> None:
    """Wait until a run has redriven so many."""
    while api.get(answer.headers["location"]).json()["redriven_count"] < count:
        pass


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


def test_many_are_written_in_chunks_in_the_order_of_the_guarantee(api, grave):
    """Requests are acknowledged before their facts, facts before the acts, chunk by chunk."""
    api.topics.deliver_at_once = False
    for number in range(1_200):
        grave.bury_task(number)
    grave.bury(b"{", ValueError("bad"), topic=OBJECTS)
    api.topics.deliver()
    api.topics.deliver_at_once = True
    assert 1_201 == run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))["redriven_count"]
    topics = [sorted(set(wave)) for wave in api.topics.waves]
    requests = [[OBJECTS, TASK_REQUESTS] if OBJECTS in wave else [TASK_REQUESTS] for wave in topics[::3]]
    assert 3 == len(requests)
    assert topics == [wave for one in requests for wave in (one, [TASK_EVENTS], [DEAD_LETTERS])]
    assert max(len(wave) for wave in api.topics.waves) <= 500


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
    started = api.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 0.5})
    second = api.post(f"{PATH}/redrive", json={"all": True})
    assert (409, "redrive-under-way", started.json()["id"]) == (*refusal_of(second), second.json()["id"])
    cancelled = api.request("DELETE", started.headers["location"])
    assert 202 == cancelled.status_code
    run = run_to_end(api, started)
    assert "CANCELLED" == run["state"]
    assert run["redriven_count"] == len(listed_ids(api, "?state=REDRIVEN")) <= 2
    assert (
        50 - run["redriven_count"] == run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))["redriven_count"]
    )


def test_rate_is_a_cap(api, grave):
    """At 100 a second 31 letters take at least 0.3 s, less the burst."""
    for number in range(31):
        grave.bury_task(number)
    began_at_s = time.monotonic()
    run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 100}))
    assert 0.29 < time.monotonic() - began_at_s < 5
    assert [10, 10, 10, 1] == [len(wave) for wave in api.topics.waves[::3]]


def test_run_waits_over_a_broker_that_is_away_for_a_moment(make_api):
    """A wave that fails is sent again as it is; only that wave, so the facts of the first one are not doubled."""
    api = make_api()
    grave = Grave(api.topics)
    grave.bury_task(1)
    api.topics.wave_failures = [None, OutcomeUnknown("not confirmed")]
    run = run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))
    assert ("DONE", 1, None) == (run["state"], run["redriven_count"], run["error"])
    assert [[TASK_REQUESTS], [TASK_EVENTS], [DEAD_LETTERS]] == api.topics.waves


def test_run_that_the_broker_refuses_fails_with_the_reason(api, grave):
    """What will never be taken ends the run, which says so; the letters are dead as before."""
    grave.bury_task(1)
    api.topics.wave_failures = [RecordRefused("the broker refused it")]
    run = run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))
    assert ("FAILED", 0) == (run["state"], run["redriven_count"])
    assert "the broker refused it" in run["error"]
    assert "DEAD" == state_of(api, grave.ids[0])


def test_letter_in_the_hand_of_a_run_is_a_conflict(api, grave):
    """One who redrives a letter that a run is writing is told so, and it is written once."""
    letter_id = grave.bury_task(1)
    gate = asyncio.Event()
    first = api.topics.publish_to

    async def publish_late(records):
        await gate.wait()
        return await first(records)

    api.topics.publish_to = publish_late

    async def scenario():
        started = await api.client.post(f"{PATH}/redrive", json={"all": True})
        await until(lambda: api.app.state.collaborators.redriver._in_hand)
        single = await api.client.post(f"{PATH}/{letter_id}/redrive")
        gate.set()
        return started, single

    started, single = api.run(scenario())
    assert (409, "letter-in-hand") == refusal_of(single)
    assert 1 == run_to_end(api, started)["redriven_count"]
    assert 1 == len(grave.written(TASK_REQUESTS))


def test_letter_in_the_hand_of_another_request_is_skipped(api, grave):
    """A run leaves alone what somebody redrives at that moment, and says how many those were."""
    letter_id = grave.bury_task(1)
    redriver = api.app.state.collaborators.redriver
    with redriver.taking([LetterId(1, 0)]):
        run = run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))
    assert ("DONE", 0, 1) == (run["state"], run["redriven_count"], run["skipped_count"])
    assert "DEAD" == state_of(api, letter_id)


def test_letter_that_is_discarded_meanwhile_is_skipped(api, grave):
    """What was found dead is looked at again right before it is written."""
    for number in range(3):
        grave.bury_task(number, at_ms=NOW_MS + number)
    started = api.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 4})
    wait_for_count(api, started, 1)
    assert 200 == api.request("DELETE", f"{PATH}/{grave.ids[0]}?reason=old").status_code
    run = run_to_end(api, started)
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
        await settle()
        return before, (await api.client.get(asked.headers["location"])).json()["state"]

    assert ("RUNNING", "DONE") == api.run(scenario())


def test_large_letters_are_written_few_at_a_time(api, grave):
    """A chunk is bounded by its bytes too, so a run of large letters does not need their sum in memory."""
    for number in range(9):
        grave.bury_task(number, content="x" * 1_000_000)
    assert 9 == run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))["redriven_count"]
    assert [5, 4] == [len(wave) for wave in api.topics.waves[::3]]


def test_cancelled_run_does_not_wait_for_a_broker_that_is_away(api, grave):
    """One who cancels while nothing can be written has his answer soon, and the reason."""
    grave.bury_task(1)
    api.topics.wave_failures = [OutcomeUnknown("not confirmed")] * 1_000
    started = api.post(f"{PATH}/redrive", json={"all": True})
    while api.get(started.headers["location"]).json()["error"] is None:
        pass
    api.request("DELETE", started.headers["location"])
    run = run_to_end(api, started)
    assert ("FAILED", 0) == (run["state"], run["redriven_count"])
    assert len(api.topics.wave_failures) > 990


def test_run_gives_up_on_a_broker_that_stays_away(api, grave):
    """A run does not wait for ever: it fails, and the same request goes on where it ended."""
    grave.bury_task(1)
    parts = api.app.state.collaborators
    impatient = BulkRedriver(parts.redriver, api.topics, api.view, lambda: NOW_MS, patience_s=0)
    api.topics.wave_failures = [BrokerUnavailable("away")] * 1_000

    async def scenario():
        run = impatient.start(Filter(), None, "me")
        await asyncio.wait([impatient._task])
        return run

    run = api.run(scenario())
    assert ("FAILED", "away; the same request goes on where this one ended") == (run.state, run.error)
    assert 999 == len(api.topics.wave_failures)


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
    assert [] == api.topics.waves


def test_unknown_run_is_a_404(api):
    """A run that this process does not know cannot be followed nor cancelled."""
    assert (404, "not-found") == refusal_of(api.get(f"{PATH}/redrives/x"))
    assert (404, "not-found") == refusal_of(api.request("DELETE", f"{PATH}/redrives/x"))


def test_end_of_the_process_ends_the_run(api, grave):
    """A server that stops waits for the chunk in hand and not for a run of hours."""
    for number in range(10):
        grave.bury_task(number)

    async def scenario():
        async with api.app.router.lifespan_context(api.app):
            started = await api.client.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 0.01})
            await until(lambda: len(api.topics.waves) == 3)
            await settle()  # it waits for its rate now
        return started

    run = api.get(api.run(scenario()).headers["location"]).json()
    assert ("CANCELLED", 1) == (run["state"], run["redriven_count"])
