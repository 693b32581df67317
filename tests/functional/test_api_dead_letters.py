"""Dead letters over HTTP: pages, conditions, groups, and one letter; from the read view, without Kafka."""

from __future__ import annotations

import base64
import itertools

import msgspec
import pytest
from grave import NOW_MS, PATH, Grave, listed_ids, raised, refusal_of, request_of
from plain_names import DEAD_LETTERS, OBJECTS

from api.dead_letters import schemas
from app.events import ObjectCreated, encode
from app.rules.fingerprint import fingerprint


@pytest.fixture
def grave(api) -> Grave:
    """Return a grave for the API's topics."""
    return Grave(api.topics)


def test_letters_are_listed_newest_first_over_all_partitions(api, grave):
    """The order is of time, not of partitions; each letter says what it was and why it died."""
    grave.bury_task(1, at_ms=NOW_MS + 2, partition=0)
    grave.bury_task(2, at_ms=NOW_MS + 3, partition=3, redrive=1)
    grave.bury(b"{", ValueError("bad"), topic=OBJECTS, at_ms=NOW_MS + 1, partition=2)
    assert [grave.ids[1], grave.ids[0], grave.ids[2]] == listed_ids(api)
    newest, _, oldest = api.get(PATH).json()["dead_letters"]
    assert {
        "id": "3-0",
        "state": "DEAD",
        "at_ms": NOW_MS + 3,
        "fingerprint": fingerprint("ValueError", "no user 1"),
        "error_type": "builtins.ValueError",
        "error": "no user 2",
        "topic": "task-requests",
        "kind": "mail",
        "task_id": "o2-0",
        "object_id": "o2",
        "attempts": 5,
        "redrive": 1,
        "acts": [],
        "links": {
            "self": "/api/dead-letters/3-0",
            "tasks": "/api/objects/o2/tasks",
            "task": "/api/objects/o2/tasks/0",
        },
    } == newest
    assert ("objects", None, None) == (oldest["topic"], oldest["kind"], oldest["task_id"])


def test_pages_follow_each_other_without_gap_or_repetition(api, grave):
    """A cursor goes on behind the last letter, also among letters of one instant, whatever comes in meanwhile."""
    for number in range(7):
        grave.bury_task(number, at_ms=NOW_MS + number // 3, partition=number % 3)
    pages, cursor = [], ""
    while cursor is not None:
        answer = api.get(f"{PATH}?limit=2{cursor and '&cursor=' + cursor}").json()
        pages.append([letter["id"] for letter in answer["dead_letters"]])
        cursor = answer["next_cursor"]
        grave.bury_task(100, at_ms=NOW_MS + 500)
    assert [2, 2, 2, 1] == [len(page) for page in pages]
    assert sorted(grave.ids[:7]) == sorted(itertools.chain(*pages))


def test_exact_last_page_has_no_cursor(api, grave):
    """A cursor promises more."""
    for number in range(4):
        grave.bury_task(number)
    assert api.get(f"{PATH}?limit=4").json()["next_cursor"] is None
    assert api.get(f"{PATH}?limit=3").json()["next_cursor"] is not None


def test_conditions_hold_together(api, grave):
    """Kind, error, fingerprint, topic, state and time each narrow the list."""
    first = grave.bury_task(1, at_ms=NOW_MS + 1)
    second = grave.bury_task(2, KeyError("Boom"), at_ms=NOW_MS + 2, kind="sms")
    third = grave.bury(b"{", ValueError("bad"), topic=OBJECTS, at_ms=NOW_MS + 3)
    group = fingerprint("KeyError", "'Boom'")
    assert [first] == listed_ids(api, "?kind=mail")
    assert [second] == listed_ids(api, f"?fingerprint={group}")
    assert [second] == listed_ids(api, "?error=boom")
    assert [second] == listed_ids(api, "?error=keyerror:%20'B")
    assert [third] == listed_ids(api, "?topic=objects")
    assert [third, second] == listed_ids(api, f"?since_ms={NOW_MS + 2}")
    assert [first] == listed_ids(api, f"?before_ms={NOW_MS + 2}")
    assert [second] == listed_ids(api, f"?since_ms={NOW_MS + 2}&before_ms={NOW_MS + 3}")
    assert [] == listed_ids(api, f"?fingerprint={group}&kind=mail")
    assert [] == listed_ids(api, f"?fingerprint={group}&before_ms={NOW_MS + 2}")
    api.request("DELETE", f"{PATH}/{first}?reason=old")
    assert [first] == listed_ids(api, "?state=DISCARDED")
    assert [third, second] == listed_ids(api, "?state=DEAD")


def test_long_list_is_searched_to_its_end(api, grave):
    """What lies behind more letters than are looked at in one turn is found, and every one once."""
    rare = grave.bury_task(0, KeyError("rare"), at_ms=NOW_MS)
    api.topics.deliver_at_once = False
    for number in range(1_500):
        grave.bury_task(number, at_ms=NOW_MS + 1 + number)
    api.topics.deliver()
    assert [rare] == listed_ids(api, "?error=rare")
    assert 1_000 == len(set(listed_ids(api, "?limit=1000")))
    assert {"dry_run": True, "count": 1_501, "at_limit_count": 0} == {
        key: value
        for key, value in api.post(f"{PATH}/redrive", json={"all": True, "dry_run": True}).json().items()
        if key != "ids"
    }


def test_groups_count_letters_of_the_same_error(api, grave):
    """A group counts by state, kind and topic, with its times and latest error; the one that grew last is first."""
    for number, kind in enumerate(["mail", "sms", "mail"]):
        grave.bury_task(number, at_ms=NOW_MS + number, kind=kind)
    grave.bury(b"{", ValueError("bad"), topic=OBJECTS, at_ms=NOW_MS + 9)
    api.post(f"{PATH}/{grave.ids[0]}/redrive")
    bad, users = api.get(f"{PATH}?group_by=fingerprint").json()["groups"]
    msgspec.convert(api.get(f"{PATH}?group_by=fingerprint").json(), schemas.GroupList)
    assert {
        "fingerprint": fingerprint("ValueError", "no user 1"),
        "count": 3,
        "states": {"DEAD": 2, "REDRIVEN": 1},
        "kinds": {"mail": 2, "sms": 1},
        "topics": {"task-requests": 3},
        "first_at_ms": NOW_MS,
        "last_at_ms": NOW_MS + 2,
        "error_type": "builtins.ValueError",
        "error": "no user 2",
    } == users
    assert ({"": 1}, "bad") == (bad["kinds"], bad["error"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2]),
        ("&kind=mail", [1]),
        ("&topic=objects", [1]),
        ("&error=no%20user", [2]),
        ("&state=DISCARDED", [1]),
        ("&state=REDRIVEN", []),
        ("&limit=1", [1]),
        (f"&since_ms={NOW_MS + 5}", [1]),
        (f"&before_ms={NOW_MS + 5}", [2]),
        (f"&fingerprint={fingerprint('ValueError', 'no user 1')}", [2]),
    ],
)
def test_groups_are_narrowed_as_letters_are(api, grave, query, expected):
    """The same conditions hold for groups; counts are of the letters that are meant."""
    grave.bury_task(0, at_ms=NOW_MS)
    grave.bury_task(1, at_ms=NOW_MS + 1, kind="sms")
    grave.bury(b"{", ValueError("bad"), topic=OBJECTS, at_ms=NOW_MS + 9)
    api.request("DELETE", f"{PATH}/{grave.ids[0]}?reason=old")
    assert expected == [group["count"] for group in api.get(f"{PATH}?group_by=fingerprint{query}").json()["groups"]]


def test_letter_is_shown_with_bytes_headers_and_stack_trace(api, grave):
    """A JSON value is JSON in the answer; headers and trace are text."""
    error = raised(ValueError("boom"))
    letter_id = grave.bury(encode(request_of(1)), error, headers=[("traceparent", b"00-1"), ("raw", b"\xff")])
    answer = api.get(f"{PATH}/{letter_id}").json()
    msgspec.convert(answer, schemas.LetterDetail)
    assert ("o1-0", "k", None, len(encode(request_of(1)))) == (
        answer["value"]["task_id"],
        answer["key"],
        answer["value_base64"],
        answer["value_bytes"],
    )
    assert {"name": "traceparent", "value": "00-1"} in answer["headers"]
    assert {"name": "raw", "value": "\ufffd"} in answer["headers"]
    assert "ValueError: boom" in answer["stack_trace"]
    assert "in raised" in answer["stack_trace"]
    assert ("mail", "o1-0", "o1") == (answer["kind"], answer["task_id"], answer["object_id"])  # told by the bytes


@pytest.mark.parametrize("value", [b"\xff\x00{", b"no json", b'{"a":', b"[" * 100_000, b'"half \\ud83d"', b""])
def test_value_that_is_no_json_is_shown_as_base64_and_text(api, grave, value):
    """Whatever the bytes are, none are lost and the answer is JSON."""
    answer = api.get(f"{PATH}/{grave.bury(value, ValueError('bad'), topic=OBJECTS)}")
    shown = answer.json()
    assert value == base64.b64decode(shown["value_base64"])
    assert (None, value.decode("utf-8", "replace")[:2_000]) == (shown["value"], shown["value_text"])


def test_empty_value_and_headers_without_value_are_shown(api):
    """A tombstone has no bytes, and a producer that is not ours may write a header without any."""
    api.topics.write(DEAD_LETTERS, 0, None, None, headers=(("kafka_dlt-original-topic", None), ("empty", None)))
    shown = api.get(f"{PATH}/0-0").json()
    assert (None, None, None, None) == (shown["key"], shown["value"], shown["value_bytes"], shown["topic"])
    assert {"name": "empty", "value": ""} in shown["headers"]
    assert [409] == [api.post(f"{PATH}/0-0/redrive").status_code]


def test_object_that_asks_for_too_much_is_known_by_its_bytes(api, grave):
    """A letter whose headers do not say what it was is still found by kind and object."""
    event = ObjectCreated(object_id="big", kind="video", task_count=10_000, name="n", content="c", at_ms=1)
    letter_id = grave.bury(encode(event), ValueError("too many tasks"), topic=OBJECTS)
    assert [letter_id] == listed_ids(api, "?kind=video")
    assert "big" == api.get(f"{PATH}/{letter_id}").json()["object_id"]


def test_paths_without_api_are_the_same(api, grave):
    """Every path works without the prefix too."""
    letter_id = grave.bury_task(1)
    assert api.get(PATH).json() == api.get("/dead-letters").json()
    assert api.get(f"{PATH}/{letter_id}").json() == api.get(f"/dead-letters/{letter_id}").json()
    assert 202 == api.post(f"/dead-letters/{letter_id}/redrive").status_code
    assert 200 == api.post("/dead-letters/redrive", json={"all": True, "dry_run": True}).status_code
    assert 404 == api.get("/dead-letters/redrives/unknown").status_code


@pytest.mark.parametrize("letter_id", ["0-0", "1-99", "unknown", "1", "999999999-1", "01-1", "%00", "1-" + "9" * 30])
@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("POST", "/redrive"), ("DELETE", "?reason=x")])
def test_unknown_letter_is_a_404(api, grave, method, tail, letter_id):
    """An id that no letter has is 404, whatever is wanted of it."""
    grave.bury_task(1)
    assert (404, "not-found") == refusal_of(api.request(method, f"{PATH}/{letter_id}{tail}"))


@pytest.mark.parametrize(
    "query",
    [
        "kind=a%20b",
        "fingerprint=xyz",
        "state=GONE",
        "since_ms=-1",
        "before_ms=x",
        "limit=0",
        "limit=1001",
        "cursor=x",
        "cursor=1-2",
        "group_by=kind",
        "error=",
        "what=1",
    ],
)
def test_wrong_query_is_a_422(api, query):
    """The wrong parameter is named; one that does not exist is not ignored."""
    answer = api.get(f"{PATH}?{query}")
    assert (422, "invalid") == refusal_of(answer)
    assert [query.split("=")[0]] == [error["parameter"] for error in answer.json()["errors"]]
