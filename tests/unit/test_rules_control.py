"""The fold of the control topic: what each command means, and that every reader comes to the same state."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from histories import task_event
from hypothesis import given
from hypothesis import strategies as st

from app.events import TaskCreated
from app.rules.commands import Cancel, CommandKey, Drain, Family, LimitRate, Pause, SetConcurrency, encode_command
from app.rules.control import MAX_CANCELS_SHOWN, ControlState

NOW_MS = 1_795_489_276_303


def task(object_id: str = "a", sequence: int = 0, *, kind: str = "mail", at_ms: int = NOW_MS) -> TaskCreated:
    """Return a task."""
    event: TaskCreated = task_event(TaskCreated, object_id, sequence, at_ms=at_ms)
    return msgspec.structs.replace(event, kind=kind)


def state_of(records: dict[str, Any]) -> ControlState:
    """Return the state after records of these keys and JSON values, or nulls."""
    state = ControlState()
    for key, value in records.items():
        state.apply(key.encode(), None if value is None else json.dumps(value).encode())
    return state


def test_nothing_is_in_force_at_first():
    """An empty topic rules nothing, and says so at the cost of an attribute."""
    state = ControlState()
    assert (False, False, False) == (state.has_pauses, state.has_rates, state.has_cancels)
    assert (False, None, None, None, False) == (
        state.is_paused("mail"),
        state.is_cancelled(task()),
        state.rate_of("mail"),
        state.concurrency_of("processing-1"),
        state.is_draining("processing-1"),
    )
    assert {} == state.commands()


def test_resumes_are_reported_once_whatever_way_they_are_learnt():
    """By a tombstone, by bytes that are no command, or as a new reading of the topic no longer has the pause."""
    state, told = ControlState(), []
    state.resume_observers.append(told.append)
    pause = encode_command(Pause(1, "why"))
    for key in (b"pause", b"pause:mail", b"pause:image", b"pause:ad"):
        state.apply(key, pause)
    assert [] == told
    for value in (None, None, pause, b"garbage"):
        state.apply(b"pause:mail", value)
    state.apply(b"pause", None)
    assert ["mail", "mail", ""] == told
    state.apply(b"rate:image", None)
    state.replace({b"pause:image": encode_command(Pause(2, "still")), b"pause:ad": None})
    assert ["mail", "mail", "", "ad"] == told


def test_pause_of_a_breaker_names_its_worker_and_others_do_not():
    """Programs can tell them apart; a record of a person looks as it did before there were breakers."""
    state = ControlState()
    state.apply(b"pause:mail", encode_command(Pause(1, "64 of 100", "w1")))
    state.apply(b"pause:image", encode_command(Pause(2, "a person")))
    assert {
        "image": {"at_ms": 2, "reason": "a person"},
        "mail": {"at_ms": 1, "reason": "64 of 100", "breaker": "w1"},
    } == state.describe()["paused_kinds"]
    assert Pause(1, "64 of 100", "w1") == state.command_at(CommandKey(Family.PAUSE, "mail"))
    assert state.command_at(CommandKey(Family.PAUSE, "ad")) is None


def test_pause_of_all_and_of_a_kind():
    """A pause of all holds for each kind, one of a kind for it alone; each is resumed by itself."""
    pause = {"type": "PAUSE", "at_ms": 1, "reason": "mail server is down"}
    assert [True, False] == [state_of({"pause:mail": pause}).is_paused(kind) for kind in ("mail", "image")]
    assert [True, True] == [state_of({"pause": pause}).is_paused(kind) for kind in ("mail", "image")]
    state = state_of({"pause": pause, "pause:mail": pause})
    state.apply(b"pause", None)
    assert [True, False] == [state.is_paused(kind) for kind in ("mail", "image")]
    assert (None, {"mail": {"at_ms": 1, "reason": "mail server is down"}}) == (
        state.describe()["paused"],
        state.describe()["paused_kinds"],
    )


def test_rate_concurrency_and_drain():
    """Limits hold by kind and by worker; a worker's own concurrency wins over the one for all."""
    state = state_of(
        {
            "rate:mail": {"type": "RATE", "kind": "mail", "per_s": 2.5},
            "concurrency": {"type": "CONCURRENCY", "count": 8},
            "concurrency:processing-2": {"type": "CONCURRENCY", "count": 2},
            "drain:processing-3": {"type": "DRAIN"},
        }
    )
    assert (True, 2.5, None, {"mail": 2.5}) == (
        state.has_rates,
        state.rate_of("mail"),
        state.rate_of("image"),
        state.rates(),
    )
    assert [8, 2] == [state.concurrency_of(f"processing-{number}") for number in (1, 2)]
    assert [False, True] == [state.is_draining(f"processing-{number}") for number in (1, 3)]
    state.apply(b"rate:mail", None)
    assert (False, None) == (state.has_rates, state.rate_of("mail"))


def test_cancel_of_an_object_does_not_cancel_its_callback():
    """It tells of that very cancel; a cancel that names it is another matter."""
    callback = msgspec.structs.replace(task("a"), role="callback", task_id="a-callback1", kind="ebs.callback")
    state = state_of({"cancel:object:a": {"type": "CANCEL", "object_id": "a"}})
    assert ("cancelled", None) == (state.is_cancelled(task("a")), state.is_cancelled(callback))
    state = state_of({"cancel:task:a-callback1": {"type": "CANCEL", "task_id": "a-callback1"}})
    assert "cancelled" == state.is_cancelled(callback)


@pytest.mark.parametrize(
    ("key", "value", "hit"),
    [
        ("cancel:object:a", {"object_id": "a"}, {"a-0", "a-1"}),
        ("cancel:task:a-1", {"task_id": "a-1"}, {"a-1"}),
        ("cancel:filter:x", {"kind": "image", "created_before_ms": NOW_MS + 1}, {"b-0"}),
        ("cancel:filter:x", {"created_before_ms": NOW_MS + 1}, {"a-0", "a-1", "b-0"}),
        ("cancel:filter:x", {"kind": "image", "created_before_ms": NOW_MS}, set()),
    ],
)
def test_cancels_hit_what_they_name(key, value, hit):
    """An object's tasks, one task, or what was created before an instant (exclusive), of a kind or of all."""
    state = state_of({key: {"type": "CANCEL", "at_ms": 1, "reason": "no longer wanted", **value}})
    tasks = [task("a", 0), task("a", 1), task("b", 0, kind="image")]
    assert hit == {one.task_id for one in tasks if state.is_cancelled(one) == "no longer wanted"}
    assert state.has_cancels


def test_cancel_without_a_reason_has_one():
    """None means not cancelled, so a cancelled task always gets words."""
    assert "cancelled" == state_of({"cancel:task:a-0": {"type": "CANCEL"}}).is_cancelled(task())


def test_of_several_filters_the_furthest_counts():
    """Revoking one filter leaves the others in force."""
    far = {"type": "CANCEL", "kind": "mail", "created_before_ms": NOW_MS + 1, "reason": "far"}
    near = {"type": "CANCEL", "kind": "mail", "created_before_ms": 5, "reason": "near"}
    state = state_of({"cancel:filter:far": far, "cancel:filter:near": near})
    assert "far" == state.is_cancelled(task())
    state.apply(b"cancel:filter:far", None)
    assert (None, "near") == (state.is_cancelled(task()), state.is_cancelled(task(at_ms=4)))


def test_object_ids_of_outside_producers_may_hold_anything():
    """Colons and other alphabets in an id do not confuse a key."""
    for object_id in ("a:b", "task:1", "ä/ö"):
        state = ControlState()
        place = CommandKey(Family.CANCEL_OBJECT, object_id)
        assert state.apply(place.encoded(), encode_command(Cancel(object_id=object_id)))
        assert state.is_cancelled(task(object_id))


PAUSE = b'{"type":"PAUSE"}'
BAD = [
    (b"pause", b"no json"),
    (b"pause", b"\xff"),
    (b"pause", b"[" * 10_000),
    (b"pause", b"{}"),
    (b"pause", b'{"type":"DRAIN"}'),
    (b"pause", b'{"type":"PAUSE","at_ms":-1}'),
    (b"rate:mail", b'{"type":"RATE","kind":"image","per_s":1}'),
    (b"rate:mail", b'{"type":"RATE","kind":"mail","per_s":0}'),
    (b"concurrency", b'{"type":"CONCURRENCY","count":0}'),
    (b"cancel:object:a", b'{"type":"CANCEL","object_id":"b"}'),
    (b"cancel:filter:x", b'{"type":"CANCEL","kind":"mail"}'),
    (None, PAUSE),
    (b"", PAUSE),
    (b"\xff", PAUSE),
    (b"pause:", PAUSE),
    (b"drain", b'{"type":"DRAIN"}'),
    (b"pause", b'{"type":"PAUSE","unknown":' + b"[" * 10_000),
    (b"cancel:object:", PAUSE),
    (b"something", PAUSE),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_bad_record_is_reported_and_rules_nothing(key, value):
    """What is no command has no effect and never raises; one sentence says why."""
    reports: list[str] = []
    state = ControlState(reports.append)
    assert not state.apply(key, value)
    assert ({}, 1) == (state.commands(), len(reports))


def test_bad_record_revokes_its_key():
    """Compaction will have left nothing else of the key: who reads later must not know more."""
    state = ControlState()
    state.apply(b"pause", PAUSE)
    assert state.apply(b"pause", b"no json")
    assert not state.is_paused("mail")


def test_repetition_changes_nothing():
    """The same record again, or a tombstone of nothing, is no change that anybody has to act on."""
    state = ControlState()
    assert [True, False, True, False] == [state.apply(b"pause", value) for value in (PAUSE, PAUSE, None, None)]


def test_only_cancels_that_are_old_are_outdated():
    """Oldest first and no more than asked for; pauses and limits never grow old."""
    times_ms = {"a": 30, "b": 10, "c": 20}
    records = {f"cancel:object:{name}": {"type": "CANCEL", "at_ms": at_ms} for name, at_ms in times_ms.items()}
    state = state_of({"pause": {"type": "PAUSE", "at_ms": 1}, **records})
    places = [CommandKey(Family.CANCEL_OBJECT, name) for name in "bc"]
    assert places == state.outdated_cancels(30, 10)
    assert places[:1] == state.outdated_cancels(30, 1)


def test_description_shows_the_newest_cancels_only():
    """Thousands of cancels do not make an answer of megabytes, but are counted."""
    records = {f"cancel:object:{at_ms}": {"type": "CANCEL", "at_ms": at_ms} for at_ms in range(MAX_CANCELS_SHOWN + 5)}
    described = state_of(records).describe()
    newest = MAX_CANCELS_SHOWN + 4
    assert (MAX_CANCELS_SHOWN + 5, MAX_CANCELS_SHOWN) == (described["cancel_count"], len(described["cancels"]))
    first = {"key": f"cancel:object:{newest}", "object_id": str(newest), "at_ms": newest, "reason": ""}
    assert {**first, "task_id": None, "kind": None, "created_before_ms": None} == described["cancels"][0]


def test_values_are_those_of_the_contract():
    """What other programs read on the topic."""
    commands = [
        Pause(5, "why"),
        LimitRate("mail", 2.5),
        SetConcurrency(8),
        Cancel(kind="mail", created_before_ms=9, at_ms=5),
        Drain(),
    ]
    assert [
        {"type": "PAUSE", "at_ms": 5, "reason": "why"},
        {"type": "RATE", "kind": "mail", "per_s": 2.5, "at_ms": 0},
        {"type": "CONCURRENCY", "count": 8, "at_ms": 0},
        {"type": "CANCEL", "kind": "mail", "created_before_ms": 9, "at_ms": 5, "reason": ""},
        {"type": "DRAIN", "at_ms": 0, "reason": ""},
    ] == [json.loads(encode_command(command)) for command in commands]


NAMES = st.sampled_from(["mail", "image", "a", "a-0"])
KEYS = st.one_of(
    st.sampled_from([b"pause", b"concurrency", b"other", b"\xff"]),
    st.builds(lambda family, name: f"{family}:{name}".encode(), st.sampled_from(list(Family)), NAMES),
)
SMALL = st.integers(0, 3)
COMMANDS = st.one_of(
    st.builds(Pause, SMALL),
    st.builds(LimitRate, NAMES, st.sampled_from([0.5, 2.0])),
    st.builds(SetConcurrency, st.integers(1, 3)),
    st.builds(Cancel, object_id=NAMES, at_ms=SMALL),
    st.builds(Cancel, task_id=NAMES, at_ms=SMALL),
    st.builds(Cancel, created_before_ms=SMALL, at_ms=SMALL),
    st.builds(Cancel, kind=NAMES, created_before_ms=SMALL),
    st.builds(Drain),
)
VALUES = st.one_of(st.none(), st.binary(max_size=4), COMMANDS.map(encode_command))
LOGS = st.lists(st.tuples(KEYS, VALUES), max_size=25)


@given(LOGS)
def test_state_is_that_of_the_compacted_log(log):
    """Whoever reads all, what compaction left in any order of the keys, or all anew after an outage, knows the same."""
    whole = ControlState()
    for key, value in log:
        before = whole.commands()
        assert whole.apply(key, value) == (before != whole.commands())
    latest = dict(log)
    compacted = ControlState()
    for key in sorted(latest):
        compacted.apply(key, latest[key])
    again = ControlState()
    again.apply(b"pause", PAUSE)
    again.replace(latest)
    assert whole.commands() == compacted.commands() == again.commands()
    assert whole.describe() == compacted.describe() == again.describe()
    assert not whole.replace(latest)
    json.dumps(whole.describe())


@given(LOGS, st.sampled_from("ab"), st.sampled_from(["mail", "image"]), SMALL)
def test_questions_agree_with_the_commands(log, object_id, kind, at_ms):
    """The indexes of the hot path answer as a look through everything in force does."""
    state = ControlState()
    for key, value in log:
        state.apply(key, value)
    commands = state.commands()
    one = task(object_id, 0, kind=kind, at_ms=at_ms)
    hit = {
        (CommandKey(Family.CANCEL_OBJECT, object_id) in commands)
        or (CommandKey(Family.CANCEL_TASK, one.task_id) in commands)
        or any(
            cancel.kind in {msgspec.UNSET, kind} and at_ms < cancel.created_before_ms
            for place, cancel in commands.items()
            if place.family is Family.CANCEL_FILTER
        )
    }
    assert hit == {state.is_cancelled(one) is not None}
    paused = CommandKey(Family.PAUSE, "") in commands or CommandKey(Family.PAUSE, kind) in commands
    assert paused == state.is_paused(kind)
