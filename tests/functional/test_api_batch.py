"""POST /api/objects/batch with the topics in memory: each item by itself, and the limits of the whole."""

from __future__ import annotations

import asyncio
import json
import tracemalloc

import msgspec
import pytest

from api.submit import schemas
from app.errors import BrokerUnavailable, OutcomeUnknown
from app.events import ObjectCreated, decode_object
from app.rules.idempotency import object_id_of, object_id_of_item

NDJSON = {"content-type": "application/x-ndjson"}
PATH = "/api/objects/batch"


def stored(api) -> list[ObjectCreated]:
    """Return the objects on the topic."""
    return [decode_object(record.value) for log in api.topics.records.values() for record in log]


def lines_of(answer) -> list[dict]:
    """Return the results of an NDJSON answer, without its summary."""
    *results, last = [json.loads(line) for line in answer.text.splitlines()]
    summary = msgspec.convert(last["summary"], schemas.BatchSummary)
    assert summary.count == len(results) == summary.accepted + summary.refused + summary.unknown
    assert [one["index"] for one in results] == list(range(len(results)))
    msgspec.convert(results, list[schemas.BatchItemResult])
    return results


def post_lines(api, *lines: str, **headers: str) -> list[dict]:
    """POST lines and return their results."""
    answer = api.post(PATH, content="\n".join(lines).encode(), headers=NDJSON | headers)
    assert (207, "application/x-ndjson") == (answer.status_code, answer.headers["content-type"])
    return lines_of(answer)


@pytest.mark.parametrize("path", [PATH, PATH + "/", "/objects/batch"])
def test_array_is_stored_item_by_item(api, path):
    """Each item of a JSON array has its result, in order, and lies on the topic with what it asked for."""
    answer = api.post(path, json=[{"name": "a", "tasks": 2}, {}, {"kind": "mail"}])
    document = msgspec.convert(answer.json(), schemas.BatchAnswer)
    assert (207, 3, 3, 0, 0) == (
        answer.status_code,
        document.count,
        document.accepted,
        document.refused,
        document.unknown,
    )
    assert [(0, 202), (1, 202), (2, 202)] == [(one.index, one.status) for one in document.items]
    by_id = {event.object_id: event for event in stored(api)}
    events = [by_id[one.id or ""] for one in document.items]
    assert [("a", 2, "default"), ("mail",)] == [
        (events[0].name, events[0].task_count, events[0].kind),
        (events[2].kind,),
    ]
    assert events[1].content


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/ndjson", "Application/JSONL"])
def test_lines_are_stored_line_by_line(api, content_type):
    """NDJSON is answered with a line a line; blank lines, CRLF and a missing last newline do not matter."""
    body = b'{"name": "a"}\r\n\n  \n{"name": "b"}'
    results = lines_of(api.post(PATH, content=body, headers={"content-type": content_type}))
    assert [202, 202] == [one["status"] for one in results]
    assert {"a", "b"} == {event.name for event in stored(api)}


def test_wrong_items_do_not_touch_the_others(api):
    """Each error says what, and in which line; what is right is stored."""
    results = post_lines(
        api, '{"name": "a"}', "", "{nonsense", '{"tasks": 0, "nme": 1}', '{"tasks": 2000}', "[]", '{"name": "b"}'
    )
    assert [202, 400, 422, 422, 422, 202] == [one["status"] for one in results]
    assert [None, 3, 4, 5, 6, None] == [one.get("line") for one in results]
    assert "line 3 is not JSON" in results[1]["detail"]
    assert ["#/tasks", "#/nme"] == [error["pointer"] for error in results[2]["errors"]]
    assert "EBS_MAX_TASKS_PER_OBJECT" in results[3]["detail"]
    assert {"a", "b"} == {event.name for event in stored(api)}


def test_items_of_an_array_may_be_wrong_too(api):
    """An array that is JSON is taken item by item."""
    body = b'[1, {"name": "a"}, {"name": 7}, null, {"name": "\xff"}]'
    answer = api.post(PATH, content=body, headers={"content-type": "application/json"})
    assert [422, 202, 422, 422, 400] == [one["status"] for one in answer.json()["items"]]
    assert (1, 4) == (answer.json()["accepted"], answer.json()["refused"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'[{"name": "a"},\n{"name": "b"},\n{"name": }]', "line 3"),
        (b'[{"name": "a"}\n', "the body is not JSON"),
        (b"", "the body is not JSON"),
        (b'{"name": "a"}', "not a JSON array"),
    ],
)
def test_array_that_is_none_is_a_400_that_names_the_line(api, body, said):
    """Nothing of it is stored."""
    answer = api.post(PATH, content=body, headers={"content-type": "application/json"})
    assert (400, "urn:ebs:problem:malformed-json") == (answer.status_code, answer.json()["type"])
    assert said in answer.json()["detail"]
    assert [] == stored(api)


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/csv"}, NDJSON | {"content-encoding": "gzip"}])
def test_other_types_are_a_415(api, headers):
    """The answer names what is taken."""
    answer = api.post(PATH, content=b"{}", headers=headers)
    assert 415 == answer.status_code
    assert "application/x-ndjson" in answer.headers["accept-post"]


def test_nothing_is_a_batch_of_none(api):
    """An empty array or body is answered with no results."""
    assert 0 == api.post(PATH, json=[]).json()["count"]
    assert [] == lines_of(api.post(PATH, content=b"\n\n", headers=NDJSON))


def test_items_have_keys_and_ids_of_their_own(api):
    """The key makes the id; an id that a result named is taken again; the two may not differ."""
    lines = ['{"name": "a", "idempotency_key": "k"}', f'{{"name": "b", "id": "{"0" * 32}"}}']
    first, second = post_lines(api, *lines), post_lines(api, *lines)
    assert first == second
    assert [object_id_of("k"), "0" * 32] == [one["id"] for one in first]
    assert 2 == len(stored(api))
    other, both, long = post_lines(
        api,
        '{"name": "other", "idempotency_key": "k"}',
        f'{{"idempotency_key": "k", "id": "{"0" * 32}"}}',
        f'{{"idempotency_key": "{"k" * 256}"}}',
    )
    assert [422, 422, 422] == [one["status"] for one in (other, both, long)]
    assert "urn:ebs:problem:key-reused" == other["type"]


def test_one_key_twice_in_a_batch_is_one_object(api):
    """The first item is the object: the same payload is a repetition, another one a conflict."""
    results = post_lines(api, *(f'{{"name": "{name}", "idempotency_key": "k"}}' for name in ("a", "a", "b")))
    assert [202, 202, 422] == [one["status"] for one in results]


def test_batch_with_a_key_is_safe_to_repeat(api):
    """The header gives each item the id of its place; another payload at a place is that item's conflict."""
    lines = [f'{{"name": "{number}"}}' for number in range(3)]
    first = post_lines(api, *lines, **{"idempotency-key": "b-1"})
    second = post_lines(api, *lines[:2], '{"name": "other"}', '{"name": "more"}', **{"idempotency-key": "b-1"})
    assert [object_id_of_item("b-1", index) for index in range(3)] == [one["id"] for one in first]
    assert [202, 202, 422, 202] == [one["status"] for one in second]
    assert 4 == len(stored(api))
    assert 400 == api.post(PATH, json=[], headers={"idempotency-key": "a,b"}).status_code


def test_batch_is_as_large_as_the_settings_say(make_api):
    """An array over the count is refused as a whole; of lines those are taken that there is room for."""
    api = make_api(max_batch_objects=2)
    assert 413 == api.post(PATH, json=[{}, {}, {}]).status_code
    assert [] == stored(api)
    results = post_lines(api, "{}", "{}", "{}", "{}")
    assert [(202, None), (202, None), (413, 3)] == [(one["status"], one.get("line")) for one in results]
    assert 2 == len(stored(api))


def test_bytes_over_the_limit_are_a_413(make_api):
    """What is announced is refused at once; what comes unannounced is taken up to the limit and told so."""
    api = make_api(max_batch_bytes=2_000)
    for headers in (NDJSON, {"content-type": "application/json"}):
        assert 413 == api.post(PATH, content=b" " * 2_001, headers=headers).status_code

    async def chunks():
        for _ in range(40):
            yield b'{"name": "a"}'.ljust(99) + b"\n"

    results = lines_of(api.post(PATH, content=chunks(), headers=NDJSON))
    assert [202] * 20 + [413] == [one["status"] for one in results]
    assert "EBS_MAX_BATCH_BYTES" in results[-1]["detail"]
    assert 20 == len(stored(api))


def test_line_over_the_limit_is_that_items_error(make_api):
    """A line is never held beyond EBS_MAX_BODY_BYTES, and the next ones are taken."""
    api = make_api(max_body_bytes=1_024)
    results = post_lines(api, '{"name": "a"}', f'{{"content": "{"x" * 5_000}"}}', '{"name": "b"}', "x" * 2_000)
    assert [202, 413, 202, 413] == [one["status"] for one in results]


def test_object_that_no_topic_takes_is_that_items_error(make_api):
    """The broker would refuse it, and all that is sent with it."""
    api = make_api(max_body_bytes=4_000_000)
    results = post_lines(api, f'{{"content": "{"x" * 1_000_000}", "tasks": 1}}', "{}")
    assert [413, 202] == [one["status"] for one in results]


@pytest.mark.parametrize("content", [b"{}\n{}", b"[{}, {}]"])
def test_broker_away_is_a_503_for_the_whole(api, content):
    """Nothing was stored, and the answer says when to come back."""
    api.topics.failure = BrokerUnavailable("nobody answers")
    headers = NDJSON if content[:1] == b"{" else {"content-type": "application/json"}
    answer = api.post(PATH, content=content, headers=headers)
    assert (503, True) == (answer.status_code, answer.json()["safe_to_repeat"])
    assert int(answer.headers["retry-after"]) > 0


def test_broker_that_goes_away_in_the_middle_is_reported_item_by_item(api):
    """2,500 lines are three chunks: stored, unknown, not stored. The unknown ones are safe to repeat by their ids."""
    calls = iter([None, OutcomeUnknown("no word within 8 s"), BrokerUnavailable("not connected")])
    publish = api.topics.publish_many

    async def failing(records):
        failure = next(calls)
        if failure is not None:
            raise failure
        return await publish(records)

    api.topics.publish_many = failing
    results = post_lines(api, *(f'{{"name": "{number}"}}' for number in range(2_500)))
    assert [202] * 1_000 + [503] * 1_500 == [one["status"] for one in results]
    types = [one.get("type") for one in results[1_000:]]
    assert ["urn:ebs:problem:outcome-unknown"] * 1_000 + ["urn:ebs:problem:broker-unavailable"] * 500 == types
    api.topics.publish_many = publish
    again = [f'{{"name": "{one["index"]}", "id": "{one["id"]}"}}' for one in results[1_000:2_000]]
    assert {202} == {one["status"] for one in post_lines(api, *again)}
    assert 2_000 == len({event.object_id for event in stored(api)})


def test_broker_that_does_not_keep_up_is_a_429(make_api):
    """What is over the bytes in flight is refused: the whole where nothing was taken, else item by item."""
    api = make_api(max_in_flight_bytes=2_097_152, max_body_bytes=2_000_000)
    gate, reached = asyncio.Event(), asyncio.Event()
    publish = api.topics.publish_many

    async def held(records):
        reached.set()
        await gate.wait()
        return await publish(records)

    api.topics.publish_many = held
    big = b"".join(json.dumps({"content": "x" * 700_000, "tasks": 1}).encode() + b"\n" for _ in range(3))

    async def three():
        first = asyncio.create_task(api.client.post(PATH, content=big, headers=NDJSON))
        await reached.wait()
        later = [await api.client.post(PATH, content=big, headers=NDJSON), await api.client.post("/api/objects")]
        gate.set()
        return await first, *later

    first, second, single = api.run(three())
    assert (207, 429, 429) == (first.status_code, second.status_code, single.status_code)
    assert ("urn:ebs:problem:broker-behind", True) == (second.json()["type"], second.json()["safe_to_repeat"])
    assert int(second.headers["retry-after"]) > 0
    assert 3 == len(stored(api))
    assert 202 == api.post("/api/objects").status_code


SCOPE = {
    "type": "http",
    "method": "POST",
    "path": PATH,
    "raw_path": PATH.encode(),
    "query_string": b"",
    "headers": [(b"content-type", b"application/x-ndjson")],
}


def test_results_come_before_the_request_has_ended(api):
    """Who sends a line and waits for its result before he sends the next one gets it."""
    heard = asyncio.Event()
    sent: list[bytes] = []
    bodies = [b'{"name": "b"}', b'{"name": "a"}\n']

    async def receive():
        body = bodies.pop()
        if not bodies:
            await heard.wait()
        return {"type": "http.request", "body": body, "more_body": bool(bodies)}

    async def send(message):
        sent.append(message.get("body", b""))
        if b'"index":0' in sent[-1]:
            heard.set()

    async def exchange():
        async with asyncio.timeout(20):
            await api.app(dict(SCOPE), receive, send)

    api.run(exchange())
    assert [0, 1] == [json.loads(line)["index"] for line in b"".join(sent).splitlines()[:2]]


def test_line_that_the_client_did_not_finish_is_no_object(api):
    """A connection that ends in the middle of a line ends the batch: half a line may be another object."""
    messages = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b'{"name": "a"}\n{}', "more_body": True},
    ]

    async def receive():
        return messages.pop()

    async def send(_message):
        pass

    api.run(api.app(dict(SCOPE), receive, send))
    assert {"a"} >= {event.name for event in stored(api)}


def test_many_lines_in_one_request(api):
    """20,000 lines have 20,000 results and objects, each with an id of its own."""
    results = post_lines(api, *(f'{{"name": "{number}"}}' for number in range(20_000)))
    by_id = {event.object_id: event.name for event in stored(api)}
    assert [str(number) for number in range(20_000)] == [by_id[one["id"]] for one in results]


@pytest.mark.parametrize("item", [b"0", b"{}", b'""', b"[]"])
def test_array_of_too_many_items_costs_no_more_than_its_bytes(api, item):
    """40 MB of `[0,0,0,...]` took 2.9 GB and held everybody up for eight seconds, before its 413."""
    chunk = (item + b",") * (65_536 // (len(item) + 1))

    async def content():
        yield b"[" + item
        for _ in range(400):
            yield b"," + chunk[:-1]

    tracemalloc.start()
    answer = api.post(PATH, content=content(), headers={"content-type": "application/json"})
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (413, "EBS_MAX_BATCH_OBJECTS") == (answer.status_code, answer.json()["detail"].rpartition("(")[2][:-1])
    assert peak_bytes < 12_000_000
    assert [] == stored(api)


def test_bodies_of_all_requests_together_are_bounded(make_api):
    """What does not fit beside those that are being worked on is a 503 that says when to come back."""
    api = make_api(max_bodies_bytes=1_048_576, max_batch_bytes=1_048_576, max_body_bytes=1_048_576)
    large = b'{"content": "' + b"c" * 700_000 + b'"}'

    async def scenario():
        halfway, go_on = asyncio.Event(), asyncio.Event()

        async def slow():
            yield large[:600_000]
            halfway.set()
            await go_on.wait()
            yield large[600_000:]

        headers = {"content-type": "application/json"}
        first = asyncio.create_task(api.client.post("/api/objects", content=slow(), headers=headers))
        await halfway.wait()
        refused = [
            await api.client.post(path, content=body, headers=kind)
            for path, body, kind in (
                ("/api/objects", large, headers),
                (PATH, b"[" + large + b"]", headers),
                ("/api/control/pause", large, headers),
                (PATH, large, NDJSON),
            )
        ]
        small = await api.client.post("/api/objects", content=b'{"name": "small"}', headers=headers)
        go_on.set()
        return await first, refused, small, await api.client.post("/api/objects", content=large, headers=headers)

    first, (*refused, stream), small, after = api.run(scenario())
    assert [202, 202, 202] == [one.status_code for one in (first, small, after)]
    for answer in refused:
        assert (503, "urn:ebs:problem:too-many-bodies") == (answer.status_code, answer.json()["type"])
        assert "EBS_MAX_BODIES_BYTES" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
    (line,) = lines_of(stream)
    assert (503, 1) == (line["status"], line["line"])
    assert "EBS_MAX_BODIES_BYTES" in line["detail"]


def test_room_is_given_back_however_a_request_ends(make_api):
    """Accepted, refused, broken off, streamed: a hundred bodies of half the room come one after the other."""
    api = make_api(max_bodies_bytes=1_048_576, max_batch_bytes=1_048_576, max_body_bytes=1_048_576)
    wrong = b'{"unknown": "' + b"c" * 600_000 + b'"}'

    async def broken():
        yield wrong[:550_000]
        raise OSError("the client left")

    for _ in range(25):
        assert 422 == api.post("/api/objects", content=wrong, headers={"content-type": "application/json"}).status_code
        assert [422] == [one["status"] for one in post_lines(api, wrong.decode())]
        assert (
            207 == api.post(PATH, content=b"[" + wrong + b"]", headers={"content-type": "application/json"}).status_code
        )
        assert (
            500 == api.post("/api/objects", content=broken(), headers={"content-type": "application/json"}).status_code
        )


def test_item_over_the_limit_is_refused_alone(make_api):
    """An item of an array has the limit that a line has, and that an object alone has."""
    api = make_api(max_body_bytes=2_000)
    answer = api.post(PATH, json=[{"name": "a"}, {"content": "c" * 2_000}, {"name": "b"}]).json()
    assert [202, 413, 202] == [one["status"] for one in answer["items"]]
    assert "the item is over 2000 bytes (EBS_MAX_BODY_BYTES)" == answer["items"][1]["detail"]


@pytest.mark.parametrize("path", ["/api/objects", PATH, "/api/control/pause", "/api/dead-letters/redrive"])
@pytest.mark.parametrize("nested", [b"[" * 500_000, b'{"a":' * 100_000, b'{"content":' + b"[" * 500_000])
def test_deep_nesting_is_a_refusal(api, path, nested):
    """Brackets without end are a clear 400 or 422 of every route that takes JSON."""
    answer = api.post(path, content=nested, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.json()["type"].startswith("urn:ebs:problem:")
    if path == PATH:
        (line,) = post_lines(api, nested.decode())
        assert line["status"] in {400, 422}
