"""GET /api/objects/{id}?wait=&until=: answers as soon as an object is as far as it was waited for."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest
from histories import made_fact

from api.objects.schemas import ObjectDetail
from app.events import TaskCancelled, TaskDead, TaskFinished, TaskStarted, task_id_of
from app.rules.ledger import apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.tally import Tally

AT_MS = 1_795_489_276_303


def row(object_id: str, state: str) -> ObjectRow:
    """Return the ledger row of an object of one task that has come to a state."""
    common = (object_id, task_id_of(object_id, 0), 0, "default", 0, 1, 1)
    events = [made_fact("c", *common, AT_MS)]
    if state != "DISTRIBUTED":
        events.append(TaskStarted("s", *common, AT_MS, "w", 0))
    end = {
        "FINISHED": TaskFinished("f", *common, AT_MS, "w", 0, 0),
        "FAILED": TaskDead("d", *common, AT_MS, "w", 0, 0, "no"),
        "CANCELLED": TaskCancelled("x", *common, AT_MS),
    }.get(state)
    found = ObjectRow(created_at_ms=AT_MS)
    for event in events if end is None else [*events, end]:
        apply_task_event(found, event, Tally())
    return found


def post(api) -> str:
    """Submit an object of one task."""
    return api.post(json={"tasks": 1}).json()["id"]


async def poll(api, object_id: str, query: str) -> tuple[str, str]:
    """GET with a wait; return the state and how the wait ended."""
    answer = await api.client.get(f"/api/objects/{object_id}?{query}")
    detail = msgspec.convert(answer.json(), ObjectDetail)
    assert answer.headers["ebs-wait"] == detail.wait.outcome
    return detail.state, detail.wait.outcome


async def until_waiting(api, count: int = 1) -> None:
    """Return when so many requests wait."""
    async with asyncio.timeout(30):
        while api.view.waiters.count < count:  # noqa: ASYNC110  # requests tell nobody that they wait
            await asyncio.sleep(0)


def test_wait_ends_as_soon_as_the_state_is_reached(api):
    """Other states pass by; the answer comes with the one that was waited for."""
    object_id = post(api)

    async def scenario():
        waiting = asyncio.create_task(poll(api, object_id, "wait=60&until=FINISHED"))
        for state in ("DISTRIBUTED", "PROCESSING"):
            api.topics.write_row(object_id, row(object_id, state))
            assert not (await asyncio.wait([waiting], timeout=0.02))[0]
        api.topics.write_row(object_id, row(object_id, "FINISHED"))
        return await waiting

    assert ("FINISHED", "reached") == api.run(scenario())


def test_time_limit_answers_with_the_state_as_it_is(api):
    """Not reached is an answer of 200 that says so."""
    assert ("CREATED", "timed-out") == api.run(poll(api, post(api), "wait=0.02&until=FINISHED"))
    assert ("CREATED", "timed-out") == api.run(poll(api, post(api), "wait=0"))


@pytest.mark.parametrize(
    ("state", "until", "outcome"),
    [
        ("FINISHED", "end", "reached"),
        ("FAILED", "end", "reached"),
        ("CANCELLED", "END", "reached"),
        ("FAILED", "FINISHED,FAILED", "reached"),
        ("FINISHED", "PROCESSING", "reached"),
        ("PROCESSING", "distributed", "reached"),
        ("DISTRIBUTED", "CREATED", "reached"),
        ("FINISHED", "FAILED", "unreachable"),
        ("CANCELLED", "FINISHED", "unreachable"),
        ("FINISHED", "CANCELLED, FAILED", "unreachable"),
    ],
)
def test_what_is_decided_already_answers_at_once(api, state, until, outcome):
    """A later state counts for one on the way; an end that can never become the wanted one is not waited for."""
    object_id = post(api)
    api.topics.write_row(object_id, row(object_id, state))
    assert (state, outcome) == api.run(poll(api, object_id, f"wait=60&until={until}"))


def test_failed_object_is_waited_for_since_a_redrive_may_revive_it(api):
    """FAILED is the one end that does not stay for ever."""
    object_id = post(api)
    api.topics.write_row(object_id, row(object_id, "FAILED"))
    assert ("FAILED", "timed-out") == api.run(poll(api, object_id, "wait=0.02&until=FINISHED"))


def test_without_wait_nothing_is_waited_for(api):
    """The answer says that nobody waited."""
    answer = api.get(f"/api/objects/{post(api)}?until=FINISHED")
    assert (200, None) == (answer.status_code, answer.json()["wait"])
    assert "ebs-wait" not in answer.headers


def test_a_thousand_waiters_are_cheap(api):
    """Nothing is computed for those whose object did not change; all are answered at once in the end."""
    ids = [post(api) for _ in range(100)]

    async def scenario():
        waiting = [asyncio.create_task(poll(api, ids[number % 100], "wait=60")) for number in range(1_000)]
        await until_waiting(api, 1_000)
        began_s = time.process_time()
        for _ in range(500):
            api.topics.write_row("another", row("another", "PROCESSING"))
        assert time.process_time() - began_s < 2
        for object_id in ids:
            api.topics.write_row(object_id, row(object_id, "FINISHED"))
        return set(await asyncio.gather(*waiting))

    assert {("FINISHED", "reached")} == api.run(scenario())
    assert 0 == api.view.waiters.count


def test_client_that_goes_away_is_let_go(api):
    """Its wait ends when its connection does, not at the time limit."""
    object_id = post(api)

    async def scenario():
        gone = asyncio.Event()

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_message):
            pass

        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/api/objects/{object_id}",
            "query_string": b"wait=60",
            "headers": [],
        }
        waiting = asyncio.create_task(api.app(scope, receive, send))
        await until_waiting(api)
        gone.set()
        await asyncio.wait_for(waiting, 30)

    api.run(scenario())
    assert 0 == api.view.waiters.count


def test_process_that_stops_answers_waiting_requests(api):
    """A long poll must not hold up the end of the process."""
    object_id = post(api)

    async def scenario():
        waiting = asyncio.create_task(poll(api, object_id, "wait=60"))
        await until_waiting(api)
        api.app.state.collaborators.closing.ask()
        return await asyncio.wait_for(waiting, 30)

    assert ("CREATED", "timed-out") == api.run(scenario())


def test_object_that_expires_meanwhile_is_a_404(api):
    """What is gone cannot be waited for."""
    object_id = post(api)

    async def scenario():
        waiting = asyncio.create_task(api.client.get(f"/api/objects/{object_id}?wait=60"))
        await until_waiting(api)
        api.topics.write_row(object_id, None)
        return (await asyncio.wait_for(waiting, 30)).status_code

    assert 404 == api.run(scenario())


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("wait=61", "wait"),
        ("wait=-1", "wait"),
        ("wait=x", "wait"),
        ("wait=nan", "wait"),
        ("wait=1&until=DONE", "until"),
    ],
)
def test_wrong_wait_is_a_422(api, query, parameter):
    """The parameter is named; a state that there is not is answered with those that there are."""
    answer = api.get(f"/api/objects/{post(api)}?{query}")
    (error,) = answer.json()["errors"]
    assert (422, parameter) == (answer.status_code, error["parameter"])
    assert parameter != "until" or "CREATED, DISTRIBUTED" in error["detail"]


def test_unknown_object_is_a_404_even_with_a_long_wait(api):
    """It is looked for, not waited for."""
    assert 404 == api.get("/api/objects/unknown?wait=60").status_code
