"""POST /api/objects: what is taken, what is refused, and what the topic gets."""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime

import msgspec
import pytest
from msgspec import UNSET
from plain_names import OBJECTS

from api.server.schemas import ProblemDocument
from api.submit import schemas
from app import json_text
from app.errors import BrokerUnavailable, OutcomeUnknown, RecordRefused
from app.events import ObjectCreated, decode_object

HEX_ID = re.compile(r"[0-9a-f]{32}")
NOW_MS = 1_795_489_276_303


def stored(api) -> list[ObjectCreated]:
    """Return the objects on the topic."""
    return [decode_object(record.value) for log in api.topics.records.values() for record in log]


@pytest.mark.parametrize("path", ["/api/objects", "/api/objects/", "/objects", "/objects/"])
def test_post_without_payload_makes_an_object_up(api, path):
    """Every spelling of the path answers 202 with id, status, links and Location, and stores one object."""
    answer = api.post(path)
    accepted = msgspec.convert(answer.json(), schemas.ObjectAccepted)
    assert 202 == answer.status_code
    assert HEX_ID.fullmatch(accepted.id)
    assert f"/api/objects/{accepted.id}" == answer.headers["location"]
    assert f"/api/objects/{accepted.id}" == accepted.links.self
    (event,) = stored(api)
    assert accepted.id == event.object_id
    assert event.name
    assert 100 <= len(json_text.decode(event.content)) <= 200


def test_event_is_what_the_contract_says(api):
    """The record lies in partition CRC-32 of its key modulo n, its key is the object id, its fields those asked for."""
    answer = api.post(json={"name": "näme", "content": "c", "kind": "mail-2", "tasks": 7})
    object_id = answer.json()["id"]
    key = object_id.encode()
    ((topic, partition), (record,)) = next(iter(api.topics.records.items()))
    expected = ObjectCreated(
        id=f"o-{object_id}",
        object_id=object_id,
        kind="mail-2",
        task_count=7,
        name="näme",
        content=msgspec.Raw(b'"c"'),
        at_ms=NOW_MS,
    )
    assert (OBJECTS, zlib.crc32(key) % 4, key) == (topic, partition, record.key)
    assert expected == decode_object(record.value)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({}, {"kind": "default", "task_count": 5}),
        ({"name": "n"}, {"name": "n", "kind": "default", "task_count": 5}),
        ({"content": ""}, {"content": msgspec.Raw(b'""'), "task_count": 5}),
        ({"content": None}, {"content": msgspec.Raw(b"null"), "task_count": 5}),
        ({"content": {"b": [1.50, True]}}, {"content": msgspec.Raw(b'{"b":[1.5,true]}'), "task_count": 5}),
        ({"kind": "k" * 64, "tasks": 1_000}, {"kind": "k" * 64, "task_count": 1_000}),
    ],
)
def test_fields_are_optional(make_api, payload, expected):
    """What is left out is made up, or taken from the settings; the task count is always written."""
    api = make_api(tasks_per_object=5)
    assert 202 == api.post(json=payload).status_code
    (event,) = stored(api)
    assert expected == {name: getattr(event, name) for name in expected}
    assert "name" in payload or event.name


@pytest.mark.parametrize(
    ("payload", "pointers"),
    [
        ({"tasks": 0}, ["#/tasks"]),
        ({"tasks": 1_001}, ["#/tasks"]),
        ({"tasks": 10_001}, ["#/tasks"]),
        ({"tasks": "3"}, ["#/tasks"]),
        ({"tasks": True}, ["#/tasks"]),
        ({"tasks": 1.5}, ["#/tasks"]),
        ({"tasks": None}, ["#/tasks"]),
        ({"tasks": []}, ["#/tasks"]),
        ({"tasks": {}}, ["#/tasks"]),
        ({"tasks": ["a"]}, ["#/tasks/0"]),
        ({"tasks": [{}, {"name": 1}]}, ["#/tasks/1/name"]),
        ({"tasks": [{}, {"contnt": 1}]}, ["#/tasks/1"]),
        ({"kind": "a b"}, ["#/kind"]),
        ({"kind": "a\n"}, ["#/kind"]),
        ({"kind": ""}, ["#/kind"]),
        ({"kind": "k" * 65}, ["#/kind"]),
        ({"name": 1, "tasks": []}, ["#/name"]),
        ({"name": 1, "kind": []}, ["#/name", "#/kind"]),
        ({"taks": 3}, ["#/taks"]),
        ({"id": "../../etc"}, ["#/id"]),
        ([], ["#"]),
        ("text", ["#"]),
        (None, ["#"]),
    ],
)
def test_wrong_payload_is_named_field_by_field(api, payload, pointers):
    """A wrong type, range or name is a 422 whose errors point at every one of them; nothing is stored."""
    answer = api.post(content=msgspec.json.encode(payload), headers={"content-type": "application/json"})
    document = msgspec.convert(answer.json(), ProblemDocument)
    assert 422 == answer.status_code == document.status
    assert "application/problem+json" == answer.headers["content-type"]
    assert pointers == [error.pointer for error in document.errors or []]
    assert [] == stored(api)


@pytest.mark.parametrize("item", [1, {"contnt": 1}, {"name": 1}])
def test_wrong_item_says_what_an_item_is(api, item):
    """A content alone is no item."""
    (error,) = api.post(json={"tasks": [{}, item]}).json()["errors"]
    assert error["detail"].endswith(
        ': an item is {"content": ...}, and may have a `name`, `key`, `delay_s` or `due_at`'
    )


@pytest.mark.parametrize(
    "body", [b"{", b'{"name": "a"', b"nonsense", b'{"name": "\xff"}', b'{"name": "\\ud800"}', b" "]
)
def test_malformed_json_is_a_400(api, body):
    """A body that is not JSON, or not UTF-8, is 400."""
    answer = api.post(content=body, headers={"content-type": "application/json"})
    assert (400, "urn:ebs:problem:malformed-json") == (answer.status_code, answer.json()["type"])
    assert [] == stored(api)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_other_content_types_are_a_415(api, headers):
    """A body that does not say it is plain JSON is 415, whatever it holds."""
    answer = api.post(content=b'{"name": "a"}', headers=headers)
    assert (415, "application/json") == (answer.status_code, answer.headers["accept-post"])
    assert [] == stored(api)


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=UTF-8", "application/json;"])
def test_spellings_of_json_are_taken(api, content_type):
    """The type is compared as RFC 9110 says: any case, parameters apart."""
    assert 202 == api.post(content=b"{}", headers={"content-type": content_type}).status_code


def test_content_type_without_a_body_does_not_matter(api):
    """Clients that send a type with every POST still get an object made up."""
    assert 202 == api.post(headers={"content-type": "text/plain"}).status_code


@pytest.mark.parametrize("announced", [None, "10", "100000000"])
def test_body_over_the_limit_is_a_413_whatever_its_length_header_says(make_api, announced):
    """What comes in is counted: an absent or wrong Content-Length does not help."""
    api = make_api(max_body_bytes=2_000)

    async def chunks():
        for _ in range(30):
            yield b"x" * 100

    headers = {"content-type": "application/json"} | ({"content-length": announced} if announced else {})
    answer = api.post(content=chunks(), headers=headers)
    assert (413, "urn:ebs:problem:too-large") == (answer.status_code, answer.json()["type"])
    assert [] == stored(api)


def test_announced_length_over_the_limit_is_refused_before_reading(make_api):
    """A client that announces too much is told at once."""
    api = make_api(max_body_bytes=2_000)

    async def never():
        raise AssertionError("the body was read")
        yield b""

    headers = {"content-type": "application/json", "content-length": "2001"}
    assert 413 == api.post(content=never(), headers=headers).status_code


def test_object_that_no_topic_takes_is_a_413(make_api):
    """An object over the broker's message size is refused here, and does not fail later in the pipeline."""
    api = make_api(max_body_bytes=4_000_000)
    assert 413 == api.post(json={"content": "x" * 1_000_000}).status_code
    assert 413 == api.post("/api/objects?count=100000", json={"content": "x" * 10_000}).status_code
    assert [] == stored(api)


def test_object_too_large_for_its_number_of_tasks_is_a_413(make_api):
    """Each task carries the content: what that makes is bounded, and the answer names the way out."""
    answer = make_api().post("/api/objects", json={"content": "x" * 700_000, "tasks": 100})
    assert 413 == answer.status_code
    assert "would be copied 100 times" in answer.json()["detail"]
    assert "send a reference instead" in answer.json()["detail"]


def test_items_are_stored_with_their_own_contents(api):
    """A list under `tasks` is one task for each item; nothing is made up for the object's own content."""
    body = {"kind": "order", "tasks": [{"content": {"sku": "a"}}, {"content": None, "name": "second"}, {}]}
    assert 202 == api.post(json=body).status_code
    (event,) = stored(api)
    assert (None, 3, b"null") == (event.task_count, event.asked_tasks, bytes(event.content))
    assert [(msgspec.UNSET, b'{"sku":"a"}'), ("second", b"null"), (msgspec.UNSET, b"null")] == [
        (item.name, bytes(item.content)) for item in event.items
    ]


def test_items_are_copied_by_count(api):
    """`?count=N` makes N objects with the same items."""
    assert 202 == api.post("/api/objects?count=3", json={"tasks": [{"content": 1}, {"content": 2}]}).status_code
    assert [2, 2, 2] == [event.asked_tasks for event in stored(api)]


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([{}] * 1_001, "asks for 1001 tasks, at most 1000"),
        ([{"content": "x" * 100_000}] * 11, "send references instead of large contents"),
        ([{"content": "x" * 1_000_000}], "send references instead of large contents"),
    ],
)
@pytest.mark.parametrize("path", ["/api/objects", "/api/objects?count=2", "/api/objects/batch"])
def test_items_over_a_limit_are_a_413_that_says_what_to_do(make_api, tasks, said, path):
    """Too many of them, or too large a record: in every form of a submit."""
    api = make_api(max_body_bytes=4_000_000)
    body = {"tasks": tasks}
    answer = api.post(path, json=[body] if path.endswith("batch") else body)
    told = answer.json()["items"][0] if path.endswith("batch") else answer.json()
    assert 413 == told["status"]
    assert said in told["detail"]
    assert [] == stored(api)


@pytest.mark.parametrize(
    ("content", "status", "pointer"),
    [
        (b"[" * 501 + b"]" * 501, 422, "content"),
        (b"[" * 100_000 + b"]" * 100_000, 422, ""),
        (b"1e999", 422, "content"),
        (b"9" * 5_000, 422, "content"),
        (b"NaN", 400, None),
        (b"-Infinity", 400, None),
        (b'"\\ud800"', 400, None),
        (b'"\xff"', 400, None),
        (b"[" * 500 + b"]" * 500, 202, None),
        (b"123456789012345678901234567890", 202, None),
        (b'{"a":1,"a":2}', 202, None),
    ],
)
@pytest.mark.parametrize("form", [b'{"content": %b}', b'{"tasks": [{}, {"content": %b}]}'])
def test_odd_contents_have_a_clear_outcome(api, content, status, pointer, form):
    """What no handler could read is refused at the door, with the place; what is only unusual goes on as it is."""
    answer = api.post(content=form % content, headers={"content-type": "application/json"})
    assert status == answer.status_code, answer.text
    if pointer is not None:
        inside = "#/tasks/1/content" if b"tasks" in form else "#/content"
        assert [inside if pointer else "#"] == [error["pointer"] for error in answer.json()["errors"]]
    if status == 202:
        (event,) = stored(api)
        assert content == bytes(event.items[1].content if b"tasks" in form else event.content)
        shown = api.get(answer.headers["location"])
        assert b"tasks" in form or b'"content":%b' % content in shown.content


def test_contents_are_stored_on_one_line(api):
    """Blanks between the parts of a value say nothing; those inside of a text stay."""
    api.post(content=b'{"content": {"a b" :\n "c  d"}}', headers={"content-type": "application/json"})
    assert b'{"a b":"c  d"}' == bytes(stored(api)[0].content)


def test_count_makes_as_many_objects(api):
    """`?count=N` makes N objects up, each with an id of its own, all named in the answer."""
    answer = api.post("/api/objects?count=4500")
    accepted = msgspec.convert(answer.json(), schemas.BulkAccepted)
    assert (202, 4_500, 4_500) == (answer.status_code, accepted.count, len(set(accepted.ids)))
    assert set(accepted.ids) == {event.object_id for event in stored(api)}
    assert len({bytes(event.content) for event in stored(api)}) > 500


def test_count_copies_the_payload(api):
    """With a payload the N objects differ by their ids only."""
    answer = api.post("/objects?count=3", json={"name": "same", "kind": "k", "tasks": 2})
    assert {("same", "k", 2)} == {(event.name, event.kind, event.task_count) for event in stored(api)}
    assert sorted(answer.json()["ids"]) == sorted(event.object_id for event in stored(api))


def test_count_of_one_answers_as_for_many(api):
    """The shape of the answer follows the parameter, not the number."""
    assert 1 == api.post("/api/objects?count=1").json()["count"]


@pytest.mark.parametrize("count", ["0", "-1", "100001", "many", "", "1.5"])
def test_wrong_count_is_a_422(api, count):
    """A count out of 1 to 100,000 is named as the wrong parameter."""
    answer = api.post(f"/api/objects?count={count}")
    assert (422, ["count"]) == (answer.status_code, [error["parameter"] for error in answer.json()["errors"]])
    assert [] == stored(api)


def test_unknown_outcome_is_a_503_with_the_id_that_makes_repeating_safe(api):
    """The answer names the id; a repeat with it makes that object, the next one finds it made."""
    api.topics.failure = OutcomeUnknown("the broker did not confirm within 8 s")
    answer = api.post(json={"tasks": 2})
    document = answer.json()
    assert (503, True) == (answer.status_code, document["safe_to_repeat"])
    assert int(answer.headers["retry-after"]) > 0
    assert [document["id"]] == document["ids"]
    api.topics.failure = None
    first = api.post(json={"tasks": 2, **document["retry_with"]})
    second = api.post(json={"tasks": 2, **document["retry_with"]})
    assert document["id"] == first.json()["id"] == second.json()["id"]
    assert [document["id"]] == [event.object_id for event in stored(api)]


@pytest.mark.parametrize(
    ("path", "failure"),
    [
        ("/api/objects", BrokerUnavailable("nobody answers")),
        ("/api/objects", RecordRefused("too large")),
        ("/api/objects?count=2", BrokerUnavailable("nobody answers")),
    ],
)
def test_broker_away_is_a_503_that_says_nothing_was_stored(api, path, failure):
    """Nothing was stored, so a plain repeat is safe."""
    api.topics.failure = failure
    answer = api.post(path)
    assert (503, True, []) == (answer.status_code, answer.json()["safe_to_repeat"], answer.json()["ids"])
    assert "retry-after" in answer.headers


def test_bulk_that_breaks_off_says_what_is_stored(api):
    """Of 5,000 objects the first chunk of 2,000 is stored, of the second nobody knows, the rest was not sent."""
    api.topics.failure = OutcomeUnknown("the broker did not confirm within 8 s")
    api.topics.fail_after_calls = 1
    answer = api.post("/api/objects?count=5000")
    document = answer.json()
    assert 503 == answer.status_code
    assert [2_000, 2_000, 1_000] == [document[f"{state}_count"] for state in ("stored", "unknown", "not_stored")]
    assert {event.object_id for event in stored(api)} == set(document["ids"][:2_000])
    assert 4_000 == len(document["ids"])
    assert document["safe_to_repeat"] is False


HANDLED = {"project": "sample_handlers:two_kinds"}


@pytest.mark.parametrize(
    ("body", "query", "status"),
    [
        ({"kind": "imgae"}, "", 422),
        ({"kind": "imgae"}, "?count=2", 422),
        ({"name": "n"}, "", 422),
        ({"kind": "image"}, "", 202),
    ],
)
def test_kind_without_a_handler_is_refused_where_kinds_have_handlers(make_api, body, query, status):
    """The sleeping default handler would seem to work it: a misspelt kind is a 422 with those that are like it."""
    api = make_api(**HANDLED)
    answer = api.post(f"/api/objects{query}", json=body)
    assert status == answer.status_code
    if status == 422:
        (error,) = answer.json()["errors"]
        assert "#/kind" == error["pointer"]
        assert "There are functions for" in error["detail"]
        assert ('did you mean "image"?' in error["detail"]) == ("kind" in body)
        assert [] == stored(api)


def test_batch_refuses_items_of_a_kind_without_a_handler(make_api):
    """The others of the batch are stored."""
    api = make_api(**HANDLED)
    answer = api.post("/api/objects/batch", json=[{"kind": "image"}, {"kind": "imgae"}])
    assert ["image"] == [event.kind for event in stored(api)]
    assert "did you mean" in answer.text


@pytest.mark.parametrize("settings", [{}, {"handler": "shop:any", "handlers": {"image": "shop:resize"}}])
def test_any_kind_is_taken_where_a_handler_works_on_all(make_api, settings):
    """Without handlers, and with one for all other kinds, nobody can say that a kind is wrong."""
    assert 202 == make_api(**settings).post(json={"kind": "anything"}).status_code


def test_start_of_object_and_items_is_stored_as_asked(api):
    """A delay begins at the record's time; an instant keeps its meaning, whatever its zone."""
    items = [{"content": 1}, {"content": 2, "delay_s": 1.5}, {"content": 3, "due_at": "2026-12-24T18:00:00+01:00"}]
    assert 202 == api.post(json={"delay_s": 60, "tasks": items}).status_code
    (event,) = stored(api)
    assert (60, UNSET) == (event.delay_s, event.due_at)
    assert [UNSET, 1.5, UNSET] == [item.delay_s for item in event.items]
    assert datetime(2026, 12, 24, 17, tzinfo=UTC) == event.items[2].due_at


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"delay_s": -1}, "#/delay_s"),
        ({"delay_s": "5"}, "#/delay_s"),
        ({"delay_s": 40_000_000}, "#/delay_s"),
        ({"due_at": "2026-12-24T18:00:00"}, "#/due_at"),
        ({"due_at": "tomorrow"}, "#/due_at"),
        ({"due_at": "2999-01-01T00:00:00Z"}, "#/due_at"),
        ({"due_at": "2026-12-24T18:00:00Z", "delay_s": 1}, "#/due_at"),
        (
            {"tasks": [{"content": 1}, {"content": 2, "delay_s": 1, "due_at": "2026-12-24T18:00:00Z"}]},
            "#/tasks/1/due_at",
        ),
    ],
)
def test_start_that_cannot_be_is_a_422(api, body, pointer):
    """Nothing is stored; in a batch the others are."""
    answer = api.post(json=body)
    assert (422, [pointer]) == (answer.status_code, [error["pointer"] for error in answer.json()["errors"]])
    assert [] == stored(api)


def test_same_key_with_another_delay_is_refused(api):
    """What was asked for is compared, not what it becomes."""
    headers = {"Idempotency-Key": '"k"'}
    assert 202 == api.post(json={"content": "c", "delay_s": 5}, headers=headers).status_code
    assert 202 == api.post(json={"content": "c", "delay_s": 5}, headers=headers).status_code
    assert 422 == api.post(json={"content": "c", "delay_s": 6}, headers=headers).status_code
