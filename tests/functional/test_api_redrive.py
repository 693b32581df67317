"""One dead letter redriven, edited or discarded over HTTP, and what acts make of letters; without Kafka."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from fakes import settle, until
from grave import NOW_MS, PATH, Grave, listed_ids, refusal_of, state_of
from plain_names import DEAD_LETTERS, OBJECTS, TASK_EVENTS, TASK_REQUESTS

from api.dead_letters import schemas
from app import json_text
from app.errors import BrokerUnavailable, OutcomeUnknown, RecordRefused
from app.events import decode_task_event, decode_task_request
from app.rules.letter_acts import LetterAct, LetterId, LetterState, act_record


@pytest.fixture
def grave(api) -> Grave:
    """Return a grave for the API's topics."""
    return Grave(api.topics)


def test_redriven_task_is_a_new_first_attempt(api, grave):
    """Request, fact and act are written together, and every process can see that it was done."""
    letter_id = grave.bury_task(3, partition=2)
    answer = api.post(f"{PATH}/{letter_id}/redrive")
    assert 202 == answer.status_code
    msgspec.convert(answer.json(), schemas.RedriveAccepted)
    assert ("REDRIVEN", 1, "o3-0") == tuple(answer.json()[key] for key in ("state", "redrive", "task_id"))
    assert [[TASK_REQUESTS, TASK_EVENTS, DEAD_LETTERS]] == grave.commits()
    (request,), (fact,) = api.topics.records[TASK_REQUESTS, 2], api.topics.records[TASK_EVENTS, 3]
    told = decode_task_request(request.value)
    assert ("c-o3-0-r1", 1, 1, NOW_MS, "c") == (
        told.id,
        told.redrive,
        told.attempt,
        told.at_ms,
        json_text.decode(told.content),
    )
    assert ("c-o3-0-r1", b"o3") == (decode_task_event(fact.value).id, fact.key)
    act = api.topics.records[DEAD_LETTERS, 2][1]
    assert (letter_id.encode(), (("ebs-act", b"redriven"),)) == (act.key, act.headers)
    (shown,) = api.get(f"{PATH}/{letter_id}").json()["acts"]
    assert {"state": "REDRIVEN", "at_ms": NOW_MS, "by": "127.0.0.1", "reason": None, "redrive": 1} == shown
    assert [letter_id] == listed_ids(api)  # the act itself is no letter


def test_letter_is_redriven_once(api, grave):
    """A second redrive, or a discard, of the same letter is a conflict that says what was done."""
    letter_id = grave.bury_task(1)
    assert 202 == api.post(f"{PATH}/{letter_id}/redrive").status_code
    again = api.post(f"{PATH}/{letter_id}/redrive")
    assert (409, "letter-redriven") == refusal_of(again)
    assert ("REDRIVEN", NOW_MS) == (again.json()["state"], again.json()["at_ms"])
    assert (409, "letter-redriven") == refusal_of(api.request("DELETE", f"{PATH}/{letter_id}?reason=x"))
    assert 1 == len(grave.written(TASK_REQUESTS))


def test_refusal_does_not_take_over(api, grave):
    """A refused request does not fence the process that writes, which may be in the middle of a run."""
    letter_id, spent = grave.bury_task(1), grave.bury_task(2, redrive=3)
    api.post(f"{PATH}/{letter_id}/redrive")
    assert 1 == api.topics.taken_count
    paths = (f"{letter_id}/redrive", "3-9/redrive", f"{spent}/redrive")
    assert [409, 404, 409] == [api.post(f"{PATH}/{path}").status_code for path in paths]
    assert 404 == api.request("DELETE", f"{PATH}/redrives/x").status_code
    assert 1 == api.topics.taken_count


def test_redrives_at_the_same_time_make_one(api, grave):
    """Of many requests for one letter one is accepted; the others are conflicts, and one request is written."""
    letter_id = grave.bury_task(1)

    async def scenario():
        asked = [api.client.post(f"{PATH}/{letter_id}/redrive") for _ in range(20)]
        return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert [202] + [409] * 19 == sorted(api.run(scenario()))
    assert (1, 1) == (len(grave.written(TASK_REQUESTS)), len(grave.written(TASK_EVENTS)))


def test_redrive_of_another_process_is_seen_first(api, grave):
    """What another process did is read before anything is done, even if the view had not read it yet."""
    letter_id = grave.bury_task(1)
    api.topics.deliver_at_once = False
    act = act_record(DEAD_LETTERS, LetterId(1, 0), LetterState.REDRIVEN, LetterAct(NOW_MS, "elsewhere", redrive=1))
    api.topics.write(DEAD_LETTERS, act.partition, act.key, act.value, headers=tuple(act.headers))

    async def scenario():
        asking = asyncio.create_task(api.client.post(f"{PATH}/{letter_id}/redrive"))
        await asyncio.wait([asking], timeout=0.01)
        assert not asking.done()
        api.topics.deliver()
        return await asking

    assert (409, "letter-redriven") == refusal_of(api.run(scenario()))
    assert [] == grave.written(TASK_REQUESTS)


def test_task_that_dies_again_is_a_new_letter_up_to_the_limit(api, grave):
    """Each death can be redriven once, a task three times."""
    for redrive in range(3):
        changes = {"redrive": redrive} if redrive else {}
        letter_id = grave.bury_task(1, **changes)
        assert redrive + 1 == api.post(f"{PATH}/{letter_id}/redrive").json()["redrive"]
    answer = api.post(f"{PATH}/{grave.bury_task(1, redrive=3)}/redrive")
    assert (409, "not-redrivable") == refusal_of(answer)
    assert "which is the limit" in answer.json()["detail"]
    assert "DEAD" == state_of(api, grave.ids[-1])


def test_edited_payload_replaces_what_it_names(api, grave):
    """The typo of a task is mended on its way back."""
    letter_id = grave.bury_task(1)
    answer = api.post(f"{PATH}/{letter_id}/redrive", json={"payload": {"content": "better"}})
    assert 202 == answer.status_code
    (record,) = grave.written(TASK_REQUESTS)
    told = decode_task_request(record.value)
    assert ("n", "better", "mail") == (told.name, json_text.decode(told.content), told.kind)


def test_undecodable_object_is_replaced_as_a_whole(api, grave):
    """An edited object goes back to `objects` under its own id; nothing is told of tasks."""
    letter_id = grave.bury(b"{", ValueError("bad"), topic=OBJECTS, partition=3)
    event = {"type": "OBJECT_CREATED", "object_id": "x", "name": "n", "content": "c", "at_ms": 1}
    answer = api.post(f"{PATH}/{letter_id}/redrive", json={"payload": event})
    assert (202, None) == (answer.status_code, answer.json()["task_id"])
    (record,) = api.topics.records[OBJECTS, 3]
    assert (b"x", event, (("ebs-redrive", b"1"),)) == (record.key, json.loads(record.value), record.headers)
    assert [[OBJECTS, DEAD_LETTERS]] == grave.commits()
    assert 200 == api.get("/api/objects/x").status_code


def test_undecodable_bytes_go_back_as_they_are(api, grave):
    """Without a payload the very bytes return, for a reader that can read them now."""
    letter_id = grave.bury(b"\xff{", ValueError("bad"), topic=OBJECTS, headers=[("traceparent", b"00-1")])
    assert 202 == api.post(f"{PATH}/{letter_id}/redrive").status_code
    (record,) = api.topics.records[OBJECTS, 1]
    assert (b"\xff{", (("traceparent", b"00-1"), ("ebs-redrive", b"1"))) == (record.value, record.headers)


@pytest.mark.parametrize(
    ("content", "status", "pointer"),
    [
        (b'{"payload":{"sequence":1}}', 422, "#/payload"),
        (b'{"payload":{"kind":"a b"}}', 422, "#/payload"),
        (b'{"payload":null}', 422, "#/payload"),
        (b'{"payload":[]}', 422, "#/payload"),
        (b'{"playload":{}}', 422, "#/playload"),
        (b"[]", 422, "#"),
        (b"{", 400, None),
        (b"\xff", 400, None),
    ],
)
def test_wrong_edit_changes_nothing(api, grave, content, status, pointer):
    """A payload that cannot be used is refused with the place, and the letter is as it was."""
    letter_id = grave.bury_task(1)
    headers = {"content-type": "application/json"}
    answer = api.post(f"{PATH}/{letter_id}/redrive", content=content, headers=headers)
    assert status == answer.status_code
    assert ([pointer] if pointer else []) == [error["pointer"] for error in answer.json().get("errors", [])]
    assert ("DEAD", []) == (state_of(api, letter_id), api.topics.commits)


def test_too_large_edit_is_a_413(make_api):
    """What a topic would not take is refused before anything is written."""
    api = make_api(max_body_bytes=4_000_000)
    letter_id = Grave(api.topics).bury_task(1)
    answer = api.post(f"{PATH}/{letter_id}/redrive", json={"payload": {"content": "x" * 1_000_001}})
    assert (413, "too-large") == refusal_of(answer)
    assert 413 == api.post(f"{PATH}/{letter_id}/redrive", content=b"x" * 4_000_001).status_code
    assert [] == api.topics.commits


@pytest.mark.parametrize("came_through", [False, True])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_unknown_outcome_is_found_out(api, grave, method, came_through):
    """Whether the broker has it or not when it does not say: the act is written once, and the answer is success."""
    letter_id = grave.bury(b"{", ValueError("bad"), topic=OBJECTS)
    api.topics.commit_failures = [OutcomeUnknown("not confirmed")]
    api.topics.commit_then_fail = came_through
    path = f"{PATH}/{letter_id}" + ("/redrive" if method == "POST" else "?reason=old")
    answer = api.request(method, path)
    assert answer.is_success, answer.text
    assert (1, 1 if method == "POST" else 0) == (len(grave.commits()), len(grave.written(OBJECTS)))
    assert 409 == api.request(method, path).status_code


@pytest.mark.parametrize("came_through", [False, True])
def test_outcome_that_stays_unknown_is_a_503_that_can_be_repeated(make_api, came_through):
    """Who repeats it is told that it was done, or does it: the record is written once."""
    api = make_api(publish_timeout_s=0.01)
    grave = Grave(api.topics)
    letter_id = grave.bury(b"{", ValueError("bad"), topic=OBJECTS)
    api.topics.commit_failures = [OutcomeUnknown("not confirmed")]
    api.topics.commit_then_fail = came_through
    answer = api.post(f"{PATH}/{letter_id}/redrive")
    assert (503, "outcome-unknown") == refusal_of(answer)
    assert answer.json()["safe_to_repeat"] is True
    assert (409 if came_through else 202) == api.post(f"{PATH}/{letter_id}/redrive").status_code
    assert (1, "REDRIVEN") == (len(grave.written(OBJECTS)), state_of(api, letter_id))


def test_broker_that_goes_away_after_an_unknown_outcome_leaves_it_unknown(api, grave):
    """It is not said that nothing was done once something may have been."""
    letter_id = grave.bury_task(1)
    take_over, failures = api.topics.take_over, [None, BrokerUnavailable("away")]

    async def take_twice():
        await take_over()
        failure = failures.pop(0)
        if failure is not None:
            raise failure

    api.topics.take_over = take_twice
    api.topics.commit_failures = [OutcomeUnknown("not confirmed")]
    assert (503, "outcome-unknown") == refusal_of(api.post(f"{PATH}/{letter_id}/redrive"))


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_answer_waits_until_the_view_knows_of_it(make_api, method):
    """Who asks again after the answer finds it done: the answer waits for the view to read the act."""
    api = make_api(view_wait_s=30)
    letter_id = Grave(api.topics).bury_task(1)
    api.topics.deliver_at_once = False
    path = f"{PATH}/{letter_id}" + ("/redrive" if method == "POST" else "?reason=old")

    async def scenario():
        asking = asyncio.create_task(api.client.request(method, path))
        await until(lambda: (DEAD_LETTERS, 1) in api.topics.records and len(api.topics.records[DEAD_LETTERS, 1]) == 2)
        await settle()
        assert not asking.done()
        api.topics.deliver()
        return await asking

    assert api.run(scenario()).is_success
    assert state_of(api, letter_id) in {"REDRIVEN", "DISCARDED"}


@pytest.mark.parametrize(
    ("error", "name"), [(BrokerUnavailable("away"), "broker-unavailable"), (RecordRefused("no"), "record-refused")]
)
def test_redrive_that_wrote_nothing_says_so(api, grave, error, name):
    """A broker that is away, or refuses the request, is a 503, and the letter is as it was."""
    letter_id = grave.bury_task(1)
    api.topics.commit_failures = [error]
    answer = api.post(f"{PATH}/{letter_id}/redrive")
    assert (503, name) == refusal_of(answer)
    assert "nothing was done" in answer.json()["detail"]
    api.topics.failure = BrokerUnavailable("away")
    assert (503, "broker-unavailable") == refusal_of(api.post(f"{PATH}/{letter_id}/redrive"))
    assert (503, "broker-unavailable") == refusal_of(api.request("DELETE", f"{PATH}/{letter_id}?reason=x"))
    assert 200 == api.get(f"{PATH}/{letter_id}").status_code


@pytest.mark.parametrize(
    ("method", "tail"),
    [
        ("GET", ""),
        ("GET", "/1-0"),
        ("POST", "/1-0/redrive"),
        ("DELETE", "/1-0?reason=x"),
        ("GET", "?group_by=fingerprint"),
    ],
)
def test_without_a_view_everything_is_a_503(make_api, method, tail):
    """Before the broker was there once, nothing is known of dead letters."""
    api = make_api(attached=False)
    assert (503, "view-behind") == refusal_of(api.request(method, f"{PATH}{tail}"))


def test_view_that_stays_behind_is_a_503_not_a_404(api, grave):
    """A letter that the view has not read may exist: nobody says that it does not."""
    api.topics.deliver_at_once = False
    letter_id = grave.bury_task(1)
    assert (503, "view-behind") == refusal_of(api.get(f"{PATH}/{letter_id}"))
    assert (503, "view-behind") == refusal_of(api.post(f"{PATH}/{letter_id}/redrive"))


def test_discarded_letter_keeps_its_reason(api, grave):
    """A discard is an act with a reason, in the body or in the query; the bytes stay."""
    by_body, by_query = grave.bury_task(1), grave.bury_task(2)
    answer = api.request("DELETE", f"{PATH}/{by_body}", json={"reason": "duplicate of 1-1"})
    assert (200, "duplicate of 1-1") == (answer.status_code, answer.json()["reason"])
    msgspec.convert(answer.json(), schemas.Discarded)
    assert 200 == api.request("DELETE", f"{PATH}/{by_query}?reason=old").status_code
    assert ["duplicate of 1-1", "old"] == [
        api.get(f"{PATH}/{letter_id}").json()["acts"][0]["reason"] for letter_id in (by_body, by_query)
    ]
    assert (409, "letter-discarded") == refusal_of(api.post(f"{PATH}/{by_body}/redrive"))
    assert "o1-0" == api.get(f"{PATH}/{by_body}").json()["value"]["task_id"]


@pytest.mark.parametrize(
    ("tail", "body", "where"),
    [
        ("", None, "#/reason"),
        ("", {}, "#/reason"),
        ("", {"reason": ""}, "#/reason"),
        ("", {"reason": "x" * 1_001}, "#/reason"),
        ("", {"reason": "x", "why": "y"}, "#/why"),
        ("?reason=", None, "reason"),
    ],
)
def test_discard_without_a_reason_is_a_422(api, grave, tail, body, where):
    """Who throws something away says why."""
    letter_id = grave.bury_task(1)
    answer = api.request("DELETE", f"{PATH}/{letter_id}{tail}", json=body)
    (error,) = answer.json()["errors"]
    assert (422, where) == (answer.status_code, error.get("pointer") or error.get("parameter"))
    assert "DEAD" == state_of(api, letter_id)


def test_acts_are_kept_with_the_store(make_api):
    """Letters and acts are read once: another life of the process shows the same, and counts nothing twice."""
    api = make_api()
    grave = Grave(api.topics)
    for number in range(3):
        grave.bury_task(number)
    api.post(f"{PATH}/{grave.ids[0]}/redrive")
    before = api.get(f"{PATH}?group_by=fingerprint").json()["groups"]
    layout = api.view._opened().layout()
    api.view.detach()
    api.view.attach(api._slot.open(layout), api.topics.ends)
    assert before == api.get(f"{PATH}?group_by=fingerprint").json()["groups"]
    assert ["DEAD", "DEAD", "REDRIVEN"] == [letter["state"] for letter in api.get(PATH).json()["dead_letters"]]


def test_what_only_looks_like_an_act_changes_nothing(api, grave):
    """Acts of unknown letters, in the wrong partition or without sense are passed over, and are no letters."""
    letter_id = grave.bury_task(1)
    good = act_record(DEAD_LETTERS, LetterId(1, 0), LetterState.DISCARDED, LetterAct(NOW_MS, "x", "y"))
    headers = tuple(good.headers)
    api.topics.write(DEAD_LETTERS, 2, good.key, good.value, headers=headers)
    api.topics.write(DEAD_LETTERS, 1, b"1-77", good.value, headers=headers)
    api.topics.write(DEAD_LETTERS, 1, good.key, b"{", headers=headers)
    api.topics.write(DEAD_LETTERS, 1, None, None, headers=(("ebs-act", None),))
    assert ("DEAD", [letter_id]) == (state_of(api, letter_id), listed_ids(api))


def test_redriven_outranks_discarded_and_counts_once(api, grave):
    """Two processes that act at once leave a letter that is redriven, and groups that add up."""
    letter_id = grave.bury_task(1)
    for state in (LetterState.DISCARDED, LetterState.REDRIVEN, LetterState.REDRIVEN, LetterState.DISCARDED):
        act = act_record(DEAD_LETTERS, LetterId(1, 0), state, LetterAct(NOW_MS, "x", "y"))
        api.topics.write(DEAD_LETTERS, 1, act.key, act.value, headers=tuple(act.headers))
    assert ("REDRIVEN", 4) == (state_of(api, letter_id), len(api.get(f"{PATH}/{letter_id}").json()["acts"]))
    assert [{"REDRIVEN": 1}] == [group["states"] for group in api.get(f"{PATH}?group_by=fingerprint").json()["groups"]]
