"""The engine's breaker: a kind that dies is paused for everybody, with its last death, until a person resumes it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from engine_bench import NOW_MS, Bench, request
from fake_steps import FakeStore
from fakes import settle, until
from plain_names import CONTROL, DEAD_LETTERS, TASK_EVENTS

from app.events import TaskDead, TaskRetried, TaskStarted, decode_task_event, decode_task_request, encode
from app.names import REDRIVEN_TABLE
from app.rules.breaker import DeadShares
from app.rules.commands import CommandKey, Family, Pause, decode_command, encode_command
from ebs import inline

MAIL = b"pause:mail"


def shares(min_count: int = 3) -> DeadShares:
    """Return windows that half of the tasks, but at least so many, must have died in."""
    return DeadShares(limit=0.5, window_s=60, min_count=min_count)


def mail(object_id: str, **changes: Any) -> bytes:
    """Return the request of an object of kind mail, with some fields changed."""
    return encode(msgspec.structs.replace(decode_task_request(request(object_id)), **{"kind": "mail"} | changes))


def pauses(one: Bench) -> list[Pause | None]:
    """Return what is committed under the key of the kind's pause."""
    records = one.producer.sent_to(CONTROL)
    assert {(0, MAIL)} >= {(sent.partition, sent.key) for sent in records}
    return [
        None if sent.value is None else decode_command(CommandKey(Family.PAUSE, "mail"), sent.value) for sent in records
    ]


def hear(one: Bench, value: bytes | None) -> None:
    """Let the worker read a pause of the kind, or its end, from the topic."""
    assert one.control.apply(MAIL, value)
    one.engine.control_changed()


def fail(gate: Any, *names: str) -> None:
    """Let tasks die."""
    for name in names:
        gate.fail(name, ValueError(f"no user {name}"))


async def running(bench: Any, gate: Any, names: str, **options: Any) -> Bench:
    """Return an engine in which tasks of these names run."""
    one: Bench = await bench(gate, dead_shares=shares(), **options)
    one.worker.ownership.give(0)
    one.put(0, *(mail(name) for name in names))
    await until(lambda: set(gate.running) == set(names))
    return one


async def test_kind_that_dies_is_paused_with_the_death_that_passed_the_limit(bench, gate, caplog):
    """One record, in one commit with that task's end: who, why, and in the log how to undo it."""
    one = await running(bench, gate, "abcd")
    gate.finish("a")
    fail(gate, "b", "c")
    await until(lambda: pauses(one))
    reason = "breaker of worker processing-1: 2 of 3 tasks of kind mail died within 60 s; the last error: "
    assert [Pause(NOW_MS, f"{reason}ValueError: no user c", "processing-1")] == pauses(one)
    (together,) = [commit for commit in one.producer.commits if any(sent.topic == CONTROL for sent in commit)]
    events = [decode_task_event(sent.value or b"") for sent in together if sent.topic == TASK_EVENTS]
    assert ("c", TaskDead) in {(event.object_id, type(event)) for event in events}
    assert "c" in {decode_task_request(sent.value or b"").object_id for sent in together if sent.topic == DEAD_LETTERS}
    assert 1 == one.engine.breaker.trip_count
    assert "ebs resume --kind mail" in caplog.text


async def test_pause_is_committed_at_once(bench, gate):
    """It does not wait for other ends to go with: meanwhile the other workers would go on."""
    one = await running(bench, gate, "abc", gather_s=3_600)
    fail(gate, "a", "b", "c")
    await until(lambda: pauses(one))
    assert 3 == one.types().count(TaskDead)


async def test_pause_holds_at_once_and_for_that_kind_only(bench):
    """Of handlers that take no time not one more dies than the limit needs; other kinds flow past."""

    def work(task: Any) -> None:
        if task.kind == "mail":
            raise ValueError("no user")

    one = await bench(inline(work), dead_shares=shares(10))
    one.worker.ownership.give(0)
    one.put(0, *(mail(f"a{number}") for number in range(500)), *(request(f"b{number}") for number in range(500)))
    await until(lambda: len(one.finished()) == 500)
    await settle()
    assert 10 == one.types().count(TaskDead) == len(one.producer.sent_to(DEAD_LETTERS))
    assert 1 == len(pauses(one))
    (lane,) = one.lanes
    assert (490, 10) == (lane.lines.parked_count, one.committed()[0])


async def test_resumed_kind_continues_with_an_empty_window(bench):
    """It takes the whole number again until it is paused again; nothing of it is lost."""
    one = await bench(inline(failing), dead_shares=shares(10))
    one.worker.ownership.give(0)
    one.put(0, *(mail(f"a{number}") for number in range(25)))
    for count in (10, 20, 25):
        await until(lambda count=count: one.types().count(TaskDead) == count)
        await settle()
        assert count == one.types().count(TaskDead)
        if count < 25:
            hear(one, None)
    assert (2, 2) == (len(pauses(one)), one.engine.breaker.trip_count)
    await until(lambda: one.committed() == (25, ""))


async def test_what_was_in_flight_at_the_resume_does_not_pause_again(bench, gate):
    """However many of them die: they began before somebody mended it."""
    one = await running(bench, gate, "abcdefghi")
    fail(gate, "a", "b", "c")
    await until(lambda: pauses(one))
    hear(one, None)
    fail(gate, *"defghi")
    await until(lambda: one.types().count(TaskDead) == 9)
    assert 1 == len(pauses(one))
    assert not one.control.is_paused("mail")


async def test_resume_of_all_kinds_also_restarts_the_counts(bench, gate):
    """A person has looked at it."""
    one = await running(bench, gate, "abcdef")
    fail(gate, "a", "b")
    one.control.apply(b"pause", encode_command(Pause(1, "a person")))
    one.control.apply(b"pause", None)
    fail(gate, *"cdef")
    await until(lambda: one.types().count(TaskDead) == 6)
    assert [] == pauses(one)


@pytest.mark.parametrize("key", [MAIL, b"pause"])
async def test_kind_that_is_paused_already_is_not_paused_again(bench, gate, key):
    """What a person gave as the reason stays; another worker's breaker may have been first as well."""
    one = await running(bench, gate, "abcdef")
    one.control.apply(key, encode_command(Pause(1, "a person")))
    fail(gate, *"abcdef")
    await until(lambda: one.types().count(TaskDead) == 6)
    assert [] == pauses(one)
    assert "a person" in str(one.control.describe())


async def test_pause_of_another_worker_at_once_is_one_pause(bench, gate):
    """Both are on the topic under one key; the last one holds, and one resume ends it."""
    one = await running(bench, gate, "abc")
    fail(gate, "a", "b", "c")
    await until(lambda: pauses(one))
    hear(one, encode_command(Pause(2, "breaker of worker processing-2", "processing-2")))
    assert "processing-2" in one.control.describe()["paused_kinds"]["mail"]["reason"]
    hear(one, None)
    assert not one.control.is_paused("mail")


async def test_pause_that_is_lost_with_its_partition_never_was(bench, gate):
    """Nothing is on the topic, so it holds here no more: the kind's tasks of other partitions start."""
    one = await running(bench, gate, "abc")
    one.worker.ownership.give(1)
    await one.worker.transactions.suspend()
    fail(gate, "a", "b", "c")
    await until(lambda: one.control.is_paused("mail"))
    one.put(1, mail("d", object_partition=1))
    await settle()
    assert "d" not in gate.started
    one.worker.ownership.take_away(0)
    one.worker.transactions.resume([1], one.worker.ownership.membership, one.worker.ownership.assignment)
    await until(lambda: one.stream.waiting_count == 0 and not one.control.is_paused("mail"))
    one.put(1, mail("d", object_partition=1))
    await until(lambda: "d" in gate.running)
    gate.finish("d")
    await until(lambda: "d" in one.finished())
    assert [] == pauses(one)


async def tripped_beside_another(bench, gate, names: str):
    """Return an engine whose own pause is not committed yet when it hears of another worker's."""
    one = await running(bench, gate, names)
    await one.worker.transactions.suspend()
    fail(gate, "a", "b", "c")
    await until(lambda: one.control.is_paused("mail"))
    hear(one, encode_command(Pause(2, "another one")))
    return one


async def test_pause_of_another_worker_outlives_a_partition_that_is_lost(bench, gate):
    """Only the own, uncommitted one goes."""
    one = await tripped_beside_another(bench, gate, "abc")
    one.worker.ownership.take_away(0)
    assert one.control.is_paused("mail")


async def test_pause_that_is_not_committed_yet_is_taken_back_by_a_resume(bench, gate):
    """Another worker's breaker was first, a person resumed the kind meanwhile: a late second pause would undo that."""
    one = await tripped_beside_another(bench, gate, "abcd")
    hear(one, None)
    one.worker.transactions.resume([0], one.worker.ownership.membership, one.worker.ownership.assignment)
    await until(lambda: one.types().count(TaskDead) == 3)
    gate.finish("d")
    await until(lambda: one.committed() == (4, ""))
    assert [] == pauses(one)
    assert one.lanes.is_settled


async def test_redriven_tasks_count_like_any_other(bench):
    """Ten thousand letters redriven into the bug that killed them stop after a few; the others wait for a resume."""
    one = await bench(inline(failing), dead_shares=shares(10))
    one.worker.ownership.give(0, stores={REDRIVEN_TABLE: FakeStore()})
    one.put(0, *(mail(f"a{number}", redrive=1) for number in range(200)))
    await until(lambda: pauses(one))
    await settle()
    assert (10, 1) == (one.types().count(TaskDead), len(pauses(one)))
    assert 10 == one.committed()[0]


async def test_attempts_that_are_retried_are_no_deaths(bench, gate):
    """Retries are there for what passes; only what is given up counts."""
    one = await running(bench, gate, "abcdef", max_attempts=2)
    fail(gate, *"abcdef")
    await until(lambda: one.types().count(TaskRetried) == 6)
    assert [] == pauses(one)


@pytest.mark.parametrize("kind", ["two words", "(others)"])
async def test_kind_that_no_command_can_name_is_not_paused(bench, gate, kind):
    """Nobody could resume it."""
    one = await bench(gate, dead_shares=shares())
    one.worker.ownership.give(0)
    one.put(0, *(mail(name, kind=kind) for name in "abc"))
    await until(lambda: len(gate.running) == 3)
    fail(gate, *"abc")
    await until(lambda: one.types().count(TaskDead) == 3)
    assert [] == one.producer.sent_to(CONTROL)
    assert not one.control.has_pauses


async def test_without_a_limit_nothing_is_paused(bench):
    """Off by default: tasks die as ever."""
    one = await bench(inline(failing))
    one.worker.ownership.give(0)
    one.put(0, *(mail(f"a{number}") for number in range(300)))
    await until(lambda: one.types().count(TaskDead) == 300)
    assert [TaskStarted] == one.types("a0")[:1]
    assert [] == pauses(one)


def failing(task: Any) -> None:
    """Fail always."""
    raise ValueError(f"no user {task.object_id}")
