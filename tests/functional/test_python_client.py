"""`ebs.Client` and `ebs.AsyncClient` against the application itself, with faults on the way; without Kafka."""

from __future__ import annotations

import json
import uuid

import httpx
import msgspec
import pytest
from python_clients import Asked, Lost, end, stored

from app.errors import BrokerUnavailable, OutcomeUnknown
from ebs import (
    AccessDenied,
    ApiBusy,
    ApiError,
    ApiUnreachable,
    Conflict,
    Invalid,
    Item,
    NewObject,
    NotFound,
    ObjectCancelled,
    ObjectFailed,
    SubmitFailed,
    TooLarge,
    WaitTimedOut,
)

RESET = httpx.ReadError("connection reset by peer")
REFUSED = httpx.ConnectError("connection refused")
MANY = 2_500


@pytest.fixture(params=["blocking", "loop"])
def client(request, api):
    """Return each of the two clients in turn."""
    one = Asked(api, blocking=request.param == "blocking")
    yield one
    one.close_it()


def busy(retry_after: str = "0", status: int = 503) -> httpx.Response:
    """Return an answer that says to come back."""
    return httpx.Response(status, json={"status": status, "detail": "behind"}, headers={"retry-after": retry_after})


def test_submit_stores_one_object(api, client):
    """The fields that were given are on the topic; the id is the client's own choice, so that a retry is safe."""
    submitted = client.submit("mail", "hello", tasks=2, name="n")
    (event,) = stored(api)
    assert (submitted.id, "mail", "hello", 2, "n") == (
        event.object_id,
        event.kind,
        msgspec.json.decode(event.content),
        event.task_count,
        event.name,
    )
    assert submitted.id == json.loads(client.asked[0].content)["id"]


@pytest.mark.parametrize(
    "fault",
    [
        REFUSED,
        Lost(RESET),
        Lost(httpx.RemoteProtocolError("peer closed connection without sending complete message body")),
        Lost(httpx.ReadTimeout("slow")),
        busy(),
        busy(status=429),
        httpx.Response(502, text="<html>Bad Gateway</html>"),
        httpx.Response(504, text=""),
        httpx.Response(500, json={"detail": "unexpected"}),
    ],
    ids=str,
)
def test_retry_makes_no_second_object(api, client, fault):
    """Whether the first request was lost, or only its answer: there is one object, under the id that is returned."""
    client.faults += [fault, fault]
    submitted = client.submit("mail", "hello")
    assert [submitted.id] == list(dict.fromkeys(event.object_id for event in stored(api)))
    assert 3 == len(client.asked)
    assert 1 == len({request.content for request in client.asked})
    assert 1 == len({request.headers["x-request-id"] for request in client.asked})


def test_unknown_outcome_is_repeated_with_the_same_id(api, client):
    """The broker may have it: the API says 503, and the client repeats until it knows."""
    api.topics.failure = OutcomeUnknown("no answer")
    client.on_request = lambda _request: setattr(api.topics, "failure", None) if len(client.asked) == 3 else None
    submitted = client.submit("mail")
    assert ([submitted.id], 3) == ([event.object_id for event in stored(api)], len(client.asked))
    assert [True, True] == [pause >= 2 for pause in client.pauses]  # the API's Retry-After


def test_pauses_grow_with_jitter_and_honour_retry_after(client):
    """0.25 s, doubled each time up to 8 s, at most half of it taken off; never before Retry-After."""
    client.faults += [REFUSED, REFUSED, busy("7"), REFUSED, REFUSED, REFUSED]
    with pytest.raises(ApiUnreachable):
        client.submit("mail")
    for pause_s, longest_s in zip(client.pauses, (0.25, 0.5, 10.5, 2, 4), strict=True):
        assert longest_s / 2 <= pause_s <= longest_s
    assert client.pauses[2] >= 7


def test_long_retry_after_is_an_error_at_once(client):
    """A program that must wait for an hour should know, and not sleep."""
    client.faults.append(busy("3600"))
    with pytest.raises(ApiBusy, match="behind") as caught:
        client.submit("mail")
    assert (3_600, [], 503) == (caught.value.retry_after_s, client.pauses, caught.value.status)


def test_failed_submit_names_the_id_to_repeat_it_with(api, client):
    """After the last retry the caller has what makes it safe to go on later, also from another process."""
    client.faults += [Lost(RESET)] * 6
    with pytest.raises(ApiUnreachable, match=r"no API answers at http://api \(connection reset by peer\)") as caught:
        client.submit("mail", "x")
    object_id = caught.value.object_id
    assert object_id in caught.value.__notes__[0]
    client.submit("mail", "x", object_id=object_id)
    assert [object_id] == [event.object_id for event in stored(api)]


def test_idempotency_key_makes_the_id(api, client):
    """Of any text: two submits with the same key are one object, in any process."""
    key = 'order "17", the \\ first'
    first, second = client.submit("mail", idempotency_key=key), client.submit("mail", idempotency_key=key)
    assert ([first.id], True) == ([event.object_id for event in stored(api)], first == second)
    with pytest.raises(Invalid, match=r"another payload|other payload"):
        client.submit("other", idempotency_key=key)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"object_id": "order-17"}, ValueError, "32 hexadecimal digits.*idempotency_key"),
        ({"object_id": uuid.uuid4()}, ValueError, "32 hexadecimal digits"),
        ({"object_id": uuid.uuid4().hex, "idempotency_key": "k"}, ValueError, "give one of them"),
        ({"idempotency_key": "ünïcode"}, ValueError, "printable ASCII"),
        ({"idempotency_key": ""}, ValueError, "1 to 255"),
        ({"tasks": "three"}, TypeError, "a number, or a list"),
        ({"tasks": True}, TypeError, "a number, or a list"),
        ({"tasks": {"a": 1}}, TypeError, "a number, or a list"),
        ({"tasks": [{"content": "a"}]}, ValueError, r"Item\(content, name\)"),
        ({"content": object()}, TypeError, "cannot be written as JSON"),
    ],
)
def test_what_cannot_be_sent_names_the_fix(client, given, error, said):
    """It is said at once, without a request."""
    with pytest.raises(error, match=said):
        client.submit("mail", **given)
    assert [] == client.asked


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, AccessDenied),
        (403, AccessDenied),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (422, Invalid),
        (400, ApiError),
    ],
)
def test_refusals_are_not_repeated(client, status, expected):
    """Each has a class of its own, the problem document, and the id of its request."""
    document = {"type": "urn:ebs:problem:x", "detail": "no", "status": status}
    client.faults.append(httpx.Response(status, json=document))
    with pytest.raises(ApiError, match=r"^no$") as caught:
        client.get("a")
    error = caught.value
    assert (expected, document, status, "urn:ebs:problem:x") == (type(error), error.problem, error.status, error.type)
    assert (1, [], client.asked[0].headers["x-request-id"]) == (len(client.asked), client.pauses, error.request_id)


def test_wrong_fields_are_listed(client):
    """All of them, as the API says them."""
    with pytest.raises(Invalid, match=r"#/kind: .*; #/tasks: ") as caught:
        client.submit("no kind!", tasks=0)
    assert ["#/kind", "#/tasks"] == [error["pointer"] for error in caught.value.errors]


def test_too_large_content_is_refused(client):
    """The API says which limit it is."""
    with pytest.raises(TooLarge, match="bytes"):
        client.submit("mail", "x" * 2_000_000)


@pytest.mark.parametrize("text", ["<html>log in</html>", "", "[1]", '{"id": 3}'])
def test_success_that_is_not_the_api_is_an_error(client, text):
    """A proxy may answer 200 with a page of its own."""
    client.faults.append(httpx.Response(200, text=text))
    with pytest.raises(ApiError, match=r"^http://api/api/objects/a answers .*is EBS_API_URL the ebs API"):
        client.get("a")


def test_get_returns_the_object(api, client):
    """With its progress; fields that a newer API adds are passed over."""
    object_id = client.submit("mail", "hello", tasks=2, name="n").id
    status = client.get(object_id)
    assert ("CREATED", "mail", "n", "hello", 2, False) == (
        status.state,
        status.kind,
        status.name,
        status.content,
        status.tasks_total,
        status.ended,
    )
    end(api, object_id, 1, 2)
    assert ("FINISHED", 2, True) == (
        client.get(object_id).state,
        client.get(object_id).tasks_done,
        client.get(object_id).ended,
    )
    with pytest.raises(NotFound, match="there is no object nobody"):
        client.get("nobody")


def test_get_returns_what_the_join_returned(client):
    """As JSON says it; None while there is none."""
    answer = {"id": "a", "state": "FINISHED", "kind": "order"}
    client.faults.append(httpx.Response(200, json=answer | {"result": {"cents": 3}}))
    assert {"cents": 3} == client.get("a").result
    client.faults.append(httpx.Response(200, json=answer | {"result": None}))
    assert client.get("a").result is None


@pytest.mark.parametrize(("object_id", "error"), [("", ValueError), (None, TypeError), (b"a", TypeError)])
def test_object_without_an_id_is_no_question(client, object_id, error):
    """An empty id would ask for the list."""
    with pytest.raises(error, match="id"):
        client.get(object_id)


def test_results_are_in_the_order_of_the_tasks(api, client):
    """Through all pages: these results are more than fit into one."""
    object_id = client.submit("mail", tasks=1_000).id
    returned = [{"number": number, "text": "x" * 6_000} for number in range(1_000)]
    end(api, object_id, *returned)
    assert returned == client.results(object_id)
    assert [None, "cursor"] == [
        next(iter(request.url.params.keys() & {"cursor"}), None) for request in client.asked[2:]
    ]


def test_results_of_a_failed_object_raise_its_errors(api, client):
    """The error names the dead tasks; `tasks` has the results of the others."""
    object_id = client.submit("mail", tasks=3).id
    end(api, object_id, 1, ValueError("no user"), ValueError("no stock"))
    with pytest.raises(
        ObjectFailed, match=rf"object {object_id} failed, 2 tasks are dead \(task 1: no user; task 2: no stock\)"
    ) as caught:
        client.results(object_id)
    assert (["no user", "no stock"], [1, 2]) == (caught.value.errors, [one.sequence for one in caught.value.tasks])
    assert [("FINISHED", 1), ("DEAD", None), ("DEAD", None)] == [
        (one.state, one.result) for one in client.tasks(object_id)
    ]
    assert "FAILED" == client.wait(object_id).state


def test_results_of_a_cancelled_object_raise(client):
    """Some of its tasks have none."""
    client.faults.append(httpx.Response(200, json={"id": "a", "state": "CANCELLED", "kind": "mail"}))
    with pytest.raises(ObjectCancelled, match="was cancelled"):
        client.results("a")


def test_wait_polls_until_the_end(api, client):
    """Each request asks the API to wait; one that answers early, as it stops, is followed by the next."""
    object_id = client.submit("mail", tasks=1).id
    early = httpx.Response(200, json={"id": object_id, "state": "PROCESSING", "kind": "mail"})
    client.faults += [early, REFUSED, RESET, busy("1"), early]
    client.on_request = lambda _request: end(api, object_id, 7) if len(client.asked) == 7 else None
    assert "FINISHED" == client.wait(object_id).state
    assert 7 == len(client.asked)
    assert ["10"] * 6 == [request.url.params["wait"] for request in client.asked[1:]]


def test_wait_is_patient_with_a_view_that_is_behind(api, client):
    """An API that has just started answers 503 for as long as it takes."""
    object_id = client.submit("mail", tasks=1).id
    end(api, object_id, 7)
    client.faults += [busy("2")] * 30
    assert "FINISHED" == client.wait(object_id).state


def test_wait_that_takes_too_long_has_the_last_status(client):
    """The object goes on; the error is a TimeoutError, too."""
    object_id = client.submit("mail", tasks=4).id
    with pytest.raises(
        WaitTimedOut, match=rf"^object {object_id} has not ended within 0.05 s: it is CREATED, 0 of 4 tasks"
    ) as caught:
        client.wait(object_id, timeout_s=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert "CREATED" == caught.value.status.state
    with pytest.raises(WaitTimedOut):
        client.results(object_id, timeout_s=0)


def test_wait_without_an_answer_times_out_as_well(client):
    """Whoever gives a time limit handles one error."""
    client.faults += [REFUSED] * 10
    with pytest.raises(WaitTimedOut, match="the API did not say how it stands") as caught:
        client.wait("a", timeout_s=0)
    assert isinstance(caught.value.__cause__, ApiUnreachable)


def test_cancel(api, client):
    """Once; an object that has ended is a conflict."""
    object_id = client.submit("mail", tasks=1).id
    client.faults.append(Lost(RESET))
    assert object_id == client.cancel(object_id, reason="no longer needed").id
    assert ["no longer needed"] * 2 == [request.url.params["reason"] for request in client.asked[1:]]
    end(api, object_id, 7)
    with pytest.raises(Conflict, match="has ended: it is FINISHED"):
        client.cancel(object_id)


def test_submit_many_keeps_the_order(api, client):
    """In requests of 1,000; fields and ids of one's own go along."""
    own = uuid.uuid4().hex
    objects = [NewObject("mail", f"c{number}", 1 + number % 3) for number in range(MANY)]
    named = [NewObject("mail", object_id=own), NewObject("a", idempotency_key="k")]
    submitted = client.submit_many(iter([*objects, *named]))
    by_id = {event.object_id: event for event in stored(api)}
    assert [f"c{number}" for number in range(MANY)] == [
        msgspec.json.decode(by_id[one.id].content) for one in submitted[:MANY]
    ]
    assert (own, "a", 3) == (submitted[MANY].id, by_id[submitted[-1].id].kind, len(client.asked))
    assert [] == client.submit_many([])


def test_submit_many_repeats_what_got_lost(api, client):
    """A lost answer, a broken one, lines that the broker did not take: each object is stored once."""
    client.faults += [Lost(RESET), httpx.Response(200, text='{"index": 0, "stat'), busy()]
    submitted = client.submit_many(NewObject("mail", f"c{number}") for number in range(10))
    assert sorted(one.id for one in submitted) == sorted({event.object_id for event in stored(api)})
    assert 4 == len(client.asked)


def test_submit_many_repeats_nothing_but_what_got_lost(client):
    """Of two lines the broker did not take the second: it goes alone, as the first line of the next request."""
    ids = [uuid.uuid4().hex for _ in range(2)]
    told = [{"index": 0, "status": 202, "id": ids[0]}, {"index": 1, "status": 503, "id": ids[1]}, {"summary": {}}]
    client.faults.append(httpx.Response(207, text="\n".join(map(json.dumps, told))))
    assert ids == [one.id for one in client.submit_many(NewObject("mail", object_id=one) for one in ids)]
    assert [ids, ids[1:]] == [
        [json.loads(line)["id"] for line in request.content.splitlines()] for request in client.asked
    ]


def test_submit_many_tells_what_was_not_accepted(api, client):
    """The others are stored; each refusal names its place, its reason and its id."""
    objects = [NewObject("mail", "a"), NewObject("no kind!"), NewObject("mail", "b", tasks=0)]
    with pytest.raises(
        SubmitFailed, match="1 of 3 objects were accepted; the first of the others is number 1"
    ) as caught:
        client.submit_many(objects)
    assert caught.value.accepted == [event.object_id for event in stored(api)]
    assert [(1, 422), (2, 422)] == [(one.index, one.status) for one in caught.value.refused]
    assert "#/tasks" in caught.value.refused[1].detail


def test_submit_many_that_cannot_go_on_says_what_was_accepted(api, client):
    """The second request fails for good: the first one's ids are known, and those of the failed one to repeat it."""
    api.topics.fail_after_calls = 1
    api.topics.failure = BrokerUnavailable("away")
    with pytest.raises(SubmitFailed) as caught:
        client.submit_many(NewObject("mail", str(number)) for number in range(3_000))
    assert sorted(caught.value.accepted) == sorted(event.object_id for event in stored(api))
    assert (1_000, 1_000, {503}) == (
        len(caught.value.accepted),
        len(caught.value.refused),
        {one.status for one in caught.value.refused},
    )
    assert isinstance(caught.value.__cause__, ApiBusy)
    assert all(len(one.id) == 32 for one in caught.value.refused)


def test_submit_many_of_an_iterator_that_fails_says_what_was_accepted(api, client):
    """The error is the caller's own; what was sent before it is stored."""

    def objects():
        yield from (NewObject("mail", str(number)) for number in range(1_200))
        raise LookupError("the database is away")

    with pytest.raises(LookupError) as caught:
        client.submit_many(objects())
    assert (["1000 objects before it were accepted."], 1_000) == (caught.value.__notes__, len(stored(api)))


def test_submit_many_without_any_answer_raises_why(client):
    """Nothing is known of single objects then."""
    client.faults.append(httpx.Response(401, json={"detail": "who are you"}))
    with pytest.raises(AccessDenied, match="who are you"):
        client.submit_many([NewObject("mail")])
    with pytest.raises(TypeError, match=r"object 0 is 'mail': submit_many takes NewObject"):
        client.submit_many(["mail"])


class Page(msgspec.Struct):
    """A struct as content."""

    title: str


def test_body_has_any_json_and_items():
    """As the API will take them: the one place that makes a body."""
    from ebs.client.bodies import body_of  # noqa: PLC0415  # beside its only test

    body = json.loads(body_of(NewObject("order", Page("a"), [{"sku": "a"}, Item({"content": "x"}, "second")]), None))
    assert {
        "kind": "order",
        "content": {"title": "a"},
        "tasks": [{"content": {"sku": "a"}}, {"content": {"content": "x"}, "name": "second"}],
    } == body
