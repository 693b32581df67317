"""The contract of the topics: what is written to the letter, what is taken, what is refused and how that is worded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from histories import task_event

from app.errors import DecodeError
from app.events import (
    DECODE_ERRORS,
    ObjectCreated,
    TaskCancelled,
    TaskCreated,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TasksCreated,
    TaskStarted,
    decode_object,
    decode_task_event,
    decode_task_request,
    encode,
    explain_decode_error,
    object_created_id,
    task_id_of,
)

OBJECT = (
    b'{"type":"OBJECT_CREATED","id":"o-7f3a","object_id":"7f3a","kind":"default","task_count":3,'
    b'"name":"a name","content":"some content","at_ms":1795489276303}'
)
FINISHED = (
    b'{"type":"TASK_FINISHED","id":"f-7f3a-0","object_id":"7f3a","task_id":"7f3a-0","object_partition":3,'
    b'"kind":"default","sequence":0,"task_count":3,"attempt":1,"at_ms":1795489276303,"worker":"processing-1",'
    b'"wait_ms":12,"spent_ms":3012,"result":null}'
)
MINIMAL_OBJECT = {"type": "OBJECT_CREATED", "object_id": "7f3a", "at_ms": 1, "name": "n", "content": "c"}
COMMON = [
    "type",
    "id",
    "object_id",
    "task_id",
    "object_partition",
    "kind",
    "sequence",
    "task_count",
    "attempt",
    "at_ms",
]
RUN = ["worker", "wait_ms", "spent_ms"]
FIELDS: dict[Any, list[str]] = {
    TasksCreated: ["type", "id", "object_id", "object_partition", "kind", "first", "count", "task_count", "at_ms"],
    TaskStarted: [*COMMON, "worker", "wait_ms"],
    TaskFinished: [*COMMON, *RUN, "result"],
    TaskFailed: [*COMMON, *RUN, "error", "error_type", "fingerprint", "stack_trace"],
    TaskRetried: [*COMMON, *RUN, "error", "error_type", "fingerprint"],
    TaskDead: [*COMMON, *RUN, "error", "error_type", "fingerprint"],
    TaskCancelled: COMMON,
}
TYPES = {
    TasksCreated: "TASKS_CREATED",
    TaskStarted: "TASK_STARTED",
    TaskFinished: "TASK_FINISHED",
    TaskFailed: "TASK_FAILED",
    TaskRetried: "TASK_RETRIED",
    TaskDead: "TASK_DEAD",
    TaskCancelled: "TASK_CANCELLED",
}


def as_bytes(fields: dict[str, Any]) -> bytes:
    """Return an object as another program writes it."""
    return json.dumps(fields).encode()


def test_object_stands_on_its_topic_to_the_letter():
    """Every field is there, in its order."""
    event = ObjectCreated(
        id="o-7f3a",
        object_id="7f3a",
        task_count=3,
        name="a name",
        content=msgspec.Raw(b'"some content"'),
        at_ms=1_795_489_276_303,
    )
    assert OBJECT == encode(event)
    assert event == decode_object(OBJECT)


def test_finished_task_stands_on_its_topic_to_the_letter():
    """Every field is there, in its order."""
    event = decode_task_event(FINISHED)
    assert isinstance(event, TaskFinished)
    assert FINISHED == encode(event)
    assert (b"null", 3_012) == (bytes(event.result), event.spent_ms)


@pytest.mark.parametrize("event_type", FIELDS)
def test_fields_of_each_type_have_names_and_order(event_type):
    """What is on `task-events` can be read by name, and looks the same from every writer."""
    written = encode(task_event(event_type, "7f3a", 0, at_ms=1))
    assert FIELDS[event_type] == list(json.loads(written))
    assert TYPES[event_type] == json.loads(written)["type"]
    assert event_type is type(decode_task_event(written))


def test_request_carries_the_content():
    """A request has what a handler needs."""
    request = TaskCreated(
        "c-7f3a-0", "7f3a", "7f3a-0", 3, "default", 0, 3, 1, 1, "a name", msgspec.Raw(b'{"lines":[1]}')
    )
    assert [*COMMON, "name", "content"] == list(json.loads(encode(request)))
    assert request == decode_task_request(encode(request))


@pytest.mark.parametrize(("first", "count"), [(3, 1), (0, 4), (9_999, 10_000)])
def test_tasks_that_the_object_does_not_have_are_refused(first, count):
    """One record could otherwise make the ledger's row as long as two of the largest objects."""
    made = {"type": "TASKS_CREATED", "id": "c-7f3a", "object_id": "7f3a", "object_partition": 0, "kind": "default"}
    with pytest.raises(DECODE_ERRORS, match="of 3 tasks"):
        decode_task_event(as_bytes(made | {"first": first, "count": count, "task_count": 3, "at_ms": 1}))


def test_redrive_is_written_only_where_there_was_one():
    """The ordinary event does not grow by a counter that is nearly always 0."""
    assert b"redrive" not in encode(task_event(TaskStarted, "7f3a", 0, at_ms=1))
    assert 2 == json.loads(encode(task_event(TaskStarted, "7f3a", 0, at_ms=1, redrive=2)))["redrive"]


def test_result_is_embedded_as_it_is():
    """A handler's JSON goes through untouched, however it is nested."""
    result = b'{"pages":[1,2,{"x":null}],"ok":true}'
    event = decode_task_event(encode(task_event(TaskFinished, "7f3a", 0, at_ms=1, result=result)))
    assert result == bytes(event.result)


def test_outside_producer_needs_five_fields():
    """Kind, task count and id have defaults."""
    event = decode_object(as_bytes(MINIMAL_OBJECT))
    assert ("7f3a", "default", None, "") == (event.object_id, event.kind, event.task_count, event.id)


def test_unknown_fields_are_ignored():
    """A newer writer does not break an older reader."""
    extra = {"zone": {"a": [1, 2]}, "at_s": 1}
    assert decode_object(as_bytes(MINIMAL_OBJECT)) == decode_object(as_bytes(MINIMAL_OBJECT | extra))
    assert decode_task_event(FINISHED).id == decode_task_event(as_bytes(json.loads(FINISHED) | extra)).id


@pytest.mark.parametrize("field", [name for name in MINIMAL_OBJECT if name != "content"])
def test_object_without_a_required_field_is_refused(field):
    """Each of the four is required, and the error names it."""
    rest = {name: value for name, value in MINIMAL_OBJECT.items() if name != field}
    with pytest.raises(DECODE_ERRORS, match=f"`{field}`"):
        decode_object(as_bytes(rest))


@pytest.mark.parametrize("field", [*COMMON, *RUN])
def test_task_event_without_a_required_field_is_refused(field):
    """Each field but the result is required, and the error names it."""
    rest = {name: value for name, value in json.loads(FINISHED).items() if name != field}
    with pytest.raises(DECODE_ERRORS, match=f"`{field}`"):
        decode_task_event(as_bytes(rest))


@pytest.mark.parametrize("field", COMMON)
def test_request_without_a_required_field_is_refused(field):
    """A request is held to the same."""
    written = json.loads(encode(task_event(TaskCreated, "7f3a", 0, at_ms=1)))
    rest = {name: value for name, value in written.items() if name != field}
    with pytest.raises(DECODE_ERRORS, match=f"`{field}`"):
        decode_task_request(as_bytes(rest))


OBJECT_FAULTS = [
    ("type", "TASK_CREATED"),
    ("object_id", ""),
    ("object_id", "x" * 201),
    ("object_id", 7),
    ("kind", ""),
    ("kind", "x" * 65),
    ("kind", "a b"),
    ("kind", "ä"),
    ("kind", "mail\n"),
    ("task_count", 0),
    ("task_count", 10_001),
    ("task_count", "3"),
    ("at_ms", -1),
    ("at_ms", 253_402_300_800_000),
    ("at_ms", 1.5),
    ("at_ms", "2026-01-01"),
    ("name", None),
    ("items", {}),
    ("items", []),
    ("items", [{}] * 10_001),
]


@pytest.mark.parametrize(("field", "value"), OBJECT_FAULTS)
def test_object_with_a_value_out_of_range_is_refused(field, value):
    """The error says at which field."""
    with pytest.raises(DECODE_ERRORS, match=rf"\$\.{field}"):
        decode_object(as_bytes(MINIMAL_OBJECT | {field: value}))


TASK_FAULTS = [
    ("type", "OBJECT_CREATED"),
    ("type", "TASK_LOST"),
    ("task_id", ""),
    ("object_partition", -1),
    ("object_partition", 1_000),
    ("sequence", -1),
    ("sequence", 10_002),
    ("task_count", 0),
    ("attempt", 0),
    ("attempt", 17),
    ("redrive", -1),
    ("redrive", 4),
    ("wait_ms", -1),
    ("wait_ms", 10**30),
    ("spent_ms", -1),
    ("spent_ms", 10**30),
]


@pytest.mark.parametrize(("field", "value"), TASK_FAULTS)
def test_task_event_with_a_value_out_of_range_is_refused(field, value):
    """Numbers that would not fit the ledger's bits and the tables' 64 bits never get there."""
    with pytest.raises(DECODE_ERRORS, match=rf"\$\.{field}"):
        decode_task_event(as_bytes(json.loads(FINISHED) | {field: value}))


def test_type_that_stands_for_no_type_is_refused():
    """The second type that makes `type` required can be written by nobody."""
    for never in (0, 1):
        with pytest.raises(DECODE_ERRORS):
            decode_object(as_bytes({"type": "-", "never": never}))


DEEP = b'{"type":"OBJECT_CREATED","x":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
BYTES = [
    (None, "the value is empty"),
    (b"", "truncated"),
    (b"garbage", "malformed"),
    (b"[]", "Expected `object`, got `array`"),
    (OBJECT[:-1], "truncated"),
    (OBJECT.replace(b"a name", b"\xff"), "utf-8"),
    (OBJECT.replace(b"a name", b"\\ud800"), "surrogate"),
    (DEEP, "nested too deeply"),
]


@pytest.mark.parametrize(("value", "reason"), BYTES, ids=[reason for _, reason in BYTES])
def test_bytes_that_are_no_event_are_explained(value, reason):
    """Whatever the bytes are: an error that is listed, worded with the topic and the reason."""
    with pytest.raises(DECODE_ERRORS) as caught:
        decode_object(value)
    explained = explain_decode_error("objects", caught.value)
    assert isinstance(explained, DecodeError)
    assert str(explained).startswith("not a valid record of objects: ")
    assert reason in str(explained)


def test_reason_names_field_and_range():
    """Who wrote the record can put it right from the text alone."""
    with pytest.raises(msgspec.DecodeError) as caught:
        decode_object(as_bytes(MINIMAL_OBJECT | {"task_count": 0}))
    assert "not a valid record of objects: Expected `int` >= 1 - at `$.task_count`" == str(
        explain_decode_error("objects", caught.value)
    )


def test_ids_are_made_of_what_happened():
    """A replay after a crash writes the same id again."""
    assert "o-7f3a" == object_created_id("7f3a")
    assert "7f3a-0" == task_id_of("7f3a", 0)
