"""The callbacks of an object's ends: asked for once each, counted apart, and no part of what becomes of the object."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_object import AT_MS, PARTITION, Told, created, death, redriven, run, tasks

from app.events import (
    CALLBACK_KIND,
    CALLBACK_SEQUENCE,
    MAX_SEQUENCE,
    AboutObject,
    FinishedObject,
    TaskDead,
    TaskEvent,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TasksCreated,
    TaskStarted,
    decode_task_event,
    decode_task_request,
    encode,
    parse_task_id,
    role_of,
    task_id_of,
)
from app.rules.callbacks import decode_callback, describe_callback, state_of_callback
from app.rules.ledger_rows import encode_row, sequences_of
from app.rules.ledger_states import ObjectState, ended_at_ms

URL = "https://shop.example/hooks"
FIRST = CALLBACK_SEQUENCE


def with_callback(count: int) -> TasksCreated:
    """Return the fact that the object has so many tasks, and where its ends are sent."""
    return msgspec.structs.replace(tasks(count, joins=False), about=AboutObject(callback_url=URL))


def asked(sequence: int = FIRST) -> TasksCreated:
    """Return the fact that a callback was asked for."""
    task_id = task_id_of("a", sequence)
    return TasksCreated(f"c-{task_id}", "a", PARTITION, CALLBACK_KIND, sequence, 1, 1, AT_MS + 50, role="callback")


def attempt(number: int, ending: str = "", sequence: int = FIRST) -> list[TaskEvent]:
    """Return the events of an attempt at a callback: it runs still, or finished, failed, died."""
    common = ("a", task_id_of("a", sequence), PARTITION, CALLBACK_KIND, sequence, 1, number, AT_MS + 60 + number)
    worked: tuple[Any, ...] = (*common, "w", 1, 2)
    started = TaskStarted(f"s-{sequence}-{number}", *common, "w", 1, role="callback")
    failed = TaskFailed(f"x-{sequence}-{number}", *worked, "CallbackFailed: 500", role="callback")
    return {
        "": [started],
        "finished": [started, TaskFinished(f"f-{sequence}", *worked, msgspec.Raw(b'{"status":200}'), role="callback")],
        "retried": [
            started,
            failed,
            TaskRetried(f"t-{sequence}-{number}", *worked, "CallbackFailed: 500", role="callback"),
        ],
        "dead": [started, failed, TaskDead(f"d-{sequence}", *worked, "CallbackFailed: 500", role="callback")],
    }[ending]


WHOLE = [created(), with_callback(2), *run(0, 2), *run(1, 2), asked(), *attempt(1, "retried"), *attempt(2, "finished")]


@pytest.mark.parametrize("sequence", [FIRST, FIRST + 41, MAX_SEQUENCE])
@pytest.mark.parametrize("object_id", ["a", "a-callback1", "7f3a-1"])
def test_callback_has_an_id_that_tells_object_and_end(object_id: str, sequence: int) -> None:
    """`<object id>-callback<end>`, which no id of another task can be."""
    task_id = task_id_of(object_id, sequence)
    assert f"{object_id}-callback{sequence - FIRST + 1}" == task_id
    assert (object_id, sequence) == parse_task_id(task_id)
    assert "callback" == role_of(sequence)


@pytest.mark.parametrize("task_id", ["a-callback", "a-callback0", "a-callback01", "a-callback123456", "a-callbacks1"])
def test_other_words_are_no_callback(task_id: str) -> None:
    """Nothing else parses as one."""
    assert parse_task_id(task_id) is None


def test_end_makes_its_callback_due_with_the_very_event() -> None:
    """The request has the URL and the event as it stands on `object-events`; its partition is the object's."""
    told = Told([created(), with_callback(1)])
    assert [] == told.joins()
    told.hear(*run(0))
    (request,) = told.joins()
    assert request == decode_task_request(encode(request))
    assert ("a-callback1", "callback", CALLBACK_KIND, PARTITION) == (
        request.task_id,
        request.role,
        request.kind,
        request.object_partition,
    )
    callback = decode_callback(request.content)
    (end,) = told.ends
    assert isinstance(end, FinishedObject)
    assert (URL, encode(end)) == (callback.url, bytes(callback.event))


def test_object_without_a_url_has_no_callback() -> None:
    """Nothing is asked for, and nothing is shown."""
    told = Told([created(), tasks(1, joins=False), *run(0)])
    assert ([], None) == (told.joins(), describe_callback("a", told.row, ""))


def test_redrive_ends_the_object_again_with_a_callback_of_its_own() -> None:
    """The second end has another number, so another task, and another event id."""
    told = Told([created(), with_callback(1), death(0), asked(), *attempt(1, "finished"), redriven(0)])
    assert (ObjectState.DISTRIBUTED, "waiting") == (told.state, state_of_callback(told.row))
    told.hear(*run(0, redrive=1))
    assert ["a-callback1", "a-callback2"] == [request.task_id for request in told.joins()]
    events = [decode_callback(request.content).event for request in told.joins()]
    assert ["e-a-1", "e-a-2"] == [msgspec.json.decode(event)["id"] for event in events]
    told.hear(asked(FIRST + 1), *attempt(1, "finished", FIRST + 1))
    assert [0, FIRST, FIRST + 1] == sequences_of(told.row)
    assert "delivered" == state_of_callback(told.row)


def test_split_tells_where_the_ends_go_even_if_it_dies() -> None:
    """Then no other fact ever comes."""
    split = TasksCreated("c-a-split", "a", PARTITION, "order", 10_000, 1, 1, AT_MS, role="split")
    split = msgspec.structs.replace(split, about=AboutObject(callback_url=URL))
    told = Told([created(), split, death(10_000)])
    (request,) = told.joins()
    assert URL == decode_callback(request.content).url


@given(st.permutations(WHOLE), st.integers(0, len(WHOLE) - 1))
def test_any_order_and_any_repetition_give_the_same_row_and_counts(events: list[Any], repeated: int) -> None:
    """Callbacks are a join as all tasks are: also those that are heard of before the object."""
    told, expected = Told([*events, events[repeated]]), Told(WHOLE)
    assert encode_row(expected.row) == encode_row(told.row)
    assert expected.tally.totals() == told.tally.totals()
    assert (1, ObjectState.FINISHED) == (len(told.ends), told.state)


@given(st.permutations([asked(), asked(FIRST + 1), *attempt(1, "dead"), *attempt(1, "finished", FIRST + 1)]))
def test_any_order_of_two_callbacks_gives_the_same_bytes(events: list[Any]) -> None:
    """The row has them in the order of the ends."""
    before = [created(), with_callback(1), *run(0)]
    first = [asked(), asked(FIRST + 1), *attempt(1, "dead"), *attempt(1, "finished", FIRST + 1)]
    assert encode_row(Told([*before, *first]).row) == encode_row(Told([*before, *events]).row)


@pytest.mark.parametrize("ending", ["", "retried", "dead", "finished"])
def test_callback_changes_nothing_of_its_object(ending: str) -> None:
    """State, end and figures of its kind stay; the callback counts under a kind of its own, and there the law holds."""
    events = [created(), with_callback(1), *run(0)]
    alone, told = Told(events), Told([*events, asked(), *attempt(1, ending)])
    assert (alone.state, ended_at_ms(alone.row), 1) == (told.state, ended_at_ms(told.row), len(told.ends))
    totals = told.tally.totals()
    assert alone.tally.totals()["order"] == totals["order"]
    assert (1, 0) == (totals[CALLBACK_KIND].tasks_created, totals[CALLBACK_KIND].imbalance)


@pytest.mark.parametrize(
    ("events", "state", "attempts"),
    [
        ([], "waiting", 0),
        ([asked()], "waiting", 0),
        ([asked(), *attempt(1)], "waiting", 1),
        ([asked(), *attempt(1, "retried")], "retrying", 1),
        ([asked(), *attempt(1, "retried"), *attempt(2)], "retrying", 2),
        ([asked(), *attempt(1, "dead")], "dead", 1),
        ([asked(), *attempt(1, "retried"), *attempt(2, "finished")], "delivered", 2),
    ],
)
def test_object_tells_where_its_callback_stands(events: list[Any], state: str, attempts: int) -> None:
    """From its request to its delivery or death."""
    told = Told([created(), with_callback(1), *run(0), *events])
    described = describe_callback("a", told.row, "CallbackFailed: 500")
    assert described is not None
    assert (URL, state, attempts, "a-callback1") == tuple(
        described[name] for name in ("url", "state", "attempts", "task_id")
    )


def test_events_of_callbacks_are_read_back() -> None:
    """Sequence and role are within what the decoders take."""
    for event in [asked(MAX_SEQUENCE), *attempt(1, "dead", MAX_SEQUENCE)]:
        assert event == decode_task_event(encode(event))
