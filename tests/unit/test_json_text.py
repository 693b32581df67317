"""JSON values on their way: through records as they are, and which of them nobody could read."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from histories import BASE_MS, object_created
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from app import json_text
from app.events import (
    DECODE_ERRORS,
    ItemRecord,
    TaskCreated,
    decode_object,
    decode_task_request,
    encode,
    explain_decode_error,
)
from app.rules.distribution import split
from app.rules.idempotency import payload_hash

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
LIMITS = {"default_task_count": 3, "max_task_count": 100, "at_ms": BASE_MS}


def raw(value: object) -> Raw:
    """Return a value as JSON."""
    return Raw(msgspec.json.encode(value))


@settings(max_examples=100, deadline=None)
@given(JSON, st.lists(JSON, min_size=1, max_size=5))
def test_any_value_comes_through_records_and_requests_as_it_was_written(content, items):
    """Of the object and of each item: from the record to the request of the task, whatever the value is."""
    plain = msgspec.structs.replace(object_created("a", at_ms=BASE_MS), content=raw(content))
    of_items = msgspec.structs.replace(plain, items=[ItemRecord(content=raw(one)) for one in items])
    for event, expected in ((plain, [content] * 3), (of_items, items)):
        value = encode(event)
        made = split(decode_object(value), 0, record_bytes=len(value), **LIMITS)
        requests = [decode_task_request(encode(request)) for request in made.requests]
        assert [raw(one) for one in expected] == [request.content for request in requests]
        assert expected == [json_text.decode(request.content) for request in requests]


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_retried_request_has_the_same_content(content):
    """The engine writes a request again without a look at its content."""
    request = TaskCreated("c", "a", "a-0", 0, "default", 0, 1, 1, 1, "n", raw(content))
    again = msgspec.structs.replace(decode_task_request(encode(request)), attempt=2)
    assert raw(content) == decode_task_request(encode(again)).content


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_compact_value_is_the_same_on_one_line(content):
    """An answer of NDJSON has it on one line."""
    spread = Raw(msgspec.json.format(msgspec.json.encode(content), indent=2))
    compact = json_text.compact(spread)
    assert raw(content) == compact
    assert b"\n" not in bytes(compact)


BAD = {
    "not UTF-8": b'["\xff"]',
    "half of a pair": b'["\\ud800 and more"]',
    "beyond a double": b"[1e999]",
    "5,000 digits": b"9" * 5_000,
    "501 levels": b"[" * 501 + b"]" * 501,
    "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
    "NaN": b"NaN",
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", ['"content":%b', '"items":[{"content":1},{"content":%b}]'])
def test_content_that_no_handler_could_read_is_no_object(bad, place):
    """Everybody who reads objects refuses it, and the dead letter says why."""
    value = b'{"type":"OBJECT_CREATED","object_id":"a","name":"n","at_ms":1,' + place.encode() % BAD[bad] + b"}"
    with pytest.raises(DECODE_ERRORS) as caught:
        decode_object(value)
    assert str(explain_decode_error("objects", caught.value)).startswith("not a valid record of objects: ")


GOOD = {
    b"[" * 500 + b"]" * 500: None,
    b"123456789012345678901234567890": 123456789012345678901234567890,
    b'{"a":1,"a":2}': {"a": 2},
    b"1e40": 1e40,
    b"-0.0": -0.0,
    b'"\\ud83d\\ude00"': "\U0001f600",
}


@pytest.mark.parametrize("value", GOOD)
def test_unusual_values_are_taken(value):
    """500 levels, numbers beyond 64 bits, repeated keys (the last one counts)."""
    json_text.check(Raw(value))
    expected = GOOD[value]
    if expected is not None:
        read: Any = json_text.decode(Raw(value))
        assert expected == read
        assert not isinstance(expected, float) or math.copysign(1, expected) == math.copysign(1, read)


def test_object_of_old_is_read():
    """A text without items, as the first versions wrote it."""
    event = decode_object(
        b'{"type":"OBJECT_CREATED","object_id":"a","task_count":2,"name":"n","content":"c","at_ms":1}'
    )
    assert (2, b'"c"') == (event.asked_tasks, bytes(event.content))


def test_items_and_a_number_exclude_each_other():
    """Nobody could say which of them counts."""
    value = b'{"type":"OBJECT_CREATED","object_id":"a","task_count":2,"name":"n","at_ms":1,"items":[{}]}'
    with pytest.raises(msgspec.ValidationError, match="items and task_count: give one of them"):
        decode_object(value)


def test_hash_is_of_the_value():
    """The order of keys, blanks and escapes make no difference; any other value does."""
    same = [b'{"a":1,"b":"\xc3\xa9"}', b'{ "b" : "\\u00e9", "a": 1 }', b'{"a":2,"b":"\xc3\xa9","a":1}']
    other = [b'{"a":1.0,"b":"\xc3\xa9"}', b'{"a":[1],"b":"\xc3\xa9"}', b'"{}"', b"{}"]
    assert 1 == len({payload_hash("n", Raw(one), "k", 3) for one in same})
    assert 5 == len({payload_hash("n", Raw(one), "k", 3) for one in [same[0], *other]})
    assert 1 == len({payload_hash("n", None, "k", [ItemRecord(content=Raw(one))]) for one in same})
    items = [
        [ItemRecord(content=Raw(b"1"))],
        [ItemRecord(content=Raw(b"1"), name="n")],
        [ItemRecord(content=Raw(b"1"))] * 2,
    ]
    assert 4 == len({payload_hash("n", None, "k", tasks) for tasks in (*items, 1)})
