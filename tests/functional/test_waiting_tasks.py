"""Tasks that wait in the table: due times, restarts, cancels, rows in great number, rows that cannot be read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_bench import NOW_MS, request
from fake_steps import FakeStore
from fakes import GROUP, settle, until
from plain_names import DEAD_LETTERS, TASK_EVENTS
from waiting_requests import due, own, row

from app.events import (
    TaskCancelled,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TaskStarted,
)
from app.names import WAITING_TABLE
from app.rules.waiting_rows import STARTED_VALUE, start_key
from app.rules.worker_heartbeats import WaitingCount
from ebs import Retry, inline

CHANGELOG = f"{GROUP}-{WAITING_TABLE}-changelog"


async def test_delayed_task_starts_when_it_is_due_and_not_before(bench, gate):
    """Its request is done at once, so that nothing waits behind it; the row goes with its end."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, due("a", 40), request("b"))
    await until(lambda: gate.started == ["b"] and one.waiting())
    assert [(NOW_MS + 40, 0, 1, b"")] == [key for key, _ in one.waiting()]
    gate.finish("b")
    await until(lambda: one.committed() == (2, ""))
    one.now_ms += 39
    await settle()
    assert ["b"] == gate.started
    one.now_ms += 1
    await until(lambda: gate.started == ["b", "a"])
    await until(lambda: one.types("a") == [TaskStarted])
    assert 1 == len(one.waiting())
    gate.finish("a")
    await until(lambda: one.types("a") == [TaskStarted, TaskFinished] and not one.waiting())


async def test_failed_attempt_waits_and_runs_again(bench, gate):
    """TASK_FAILED, TASK_RETRIED and the row in one commit; the next attempt knows the first failure."""
    one = await bench(gate, max_attempts=2)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: gate.running)
    gate.fail("a", Retry(delay_s=0.03, reason="the server asks"))
    await until(lambda: one.types("a") == [TaskStarted, TaskFailed, TaskRetried])
    ((key, task),) = one.waiting()
    assert (NOW_MS + 30, 0, 2, b"") == key
    assert (2, NOW_MS) == (task.attempt, task.first_failed_at_ms)
    (commit,) = [commit for commit in one.producer.commits if any(sent.topic == CHANGELOG for sent in commit)]
    assert [TASK_EVENTS, TASK_EVENTS, CHANGELOG] == [sent.topic for sent in commit]
    one.now_ms += 30
    await until(lambda: gate.running)
    gate.fail("a", ValueError("again"))
    await until(lambda: one.types("a")[-1:] == [TaskDead])
    assert [] == one.waiting()


async def test_retry_without_a_pause_is_a_row_of_its_own(bench, gate):
    """The next attempt may be due in the millisecond in which the row of this one goes."""
    one = await bench(gate, max_attempts=3)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    for count in (1, 2):
        await until(lambda count=count: gate.running and len(gate.started) == count)
        gate.fail("a", Retry(delay_s=0, reason="at once"))
    await until(lambda: gate.running and len(gate.started) == 3)
    gate.finish("a")
    await until(lambda: one.types("a")[-1:] == [TaskFinished] and not one.waiting())


async def test_what_is_due_first_starts_first(bench, gate):
    """Whatever the order in which it came."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, due("late", 90), due("soon", 30), due("next", 60))
    await until(lambda: len(one.waiting()) == 3)
    for expected in (["soon"], ["soon", "next"], ["soon", "next", "late"]):
        one.now_ms += 30
        await until(lambda expected=expected: gate.started == expected)


async def test_next_life_goes_on_with_what_waits(bench, gate):
    """A row whose attempt had started, and said so, does not say it again; a row that was due starts at once."""
    store = FakeStore(dict([row("a", -50, 3), row("b", 20, 5, attempt=2)]))
    store.rows[start_key(row("a", -50, 3)[0])] = STARTED_VALUE
    one = await bench(gate, max_attempts=5)
    own(one, store, offset=6)
    await until(lambda: gate.started == ["a"])
    one.now_ms += 20
    await until(lambda: gate.started == ["a", "b"])
    gate.finish()
    await until(lambda: not store.rows)
    assert [TaskFinished] == one.types("a")
    assert [TaskStarted, TaskFinished] == one.types("b")


async def test_start_is_noted_while_an_attempt_runs(bench, gate):
    """So that the next life knows of it; an attempt that ends within one commit leaves no such row."""
    store = FakeStore(dict([row("a", 0, 3)]))
    one = await bench(gate)
    own(one, store, offset=6)
    await until(lambda: gate.running and len(store.rows) == 2)
    gate.finish("a")
    await until(lambda: not store.rows)

    quick = FakeStore(dict([row("b", 40, 3)]))
    two = await bench(inline(lambda _task: None), commit_interval_s=0.05)
    own(two, quick, offset=6)
    two.put(0, request("x"), start=6)
    await until(lambda: two.finished() == {"x"})  # a new owner begins nothing before its first commit
    two.now_ms += 40
    await until(lambda: two.types("b") == [TaskStarted, TaskFinished] and not quick.rows)
    assert 1 == len(two.producer.sent_to(CHANGELOG))


async def test_lost_partition_is_forgotten_with_what_waits_in_it(bench, gate):
    """It waits at the next owner."""
    one = await bench(gate)
    store = FakeStore(dict([row("a", 30, 3)]))
    own(one, store, offset=6)
    one.worker.ownership.take_away(0)
    one.now_ms += 60
    await settle()
    assert [] == gate.started
    own(one, store, offset=6)
    await until(lambda: gate.started == ["a"])


async def test_request_that_is_read_again_waits_once(bench, gate):
    """After `ebs offsets reset`, for instance: its row is there, or runs."""
    one = await bench(gate)
    store = FakeStore(dict([row("a", 0, 0), row("b", 40, 1)]))
    own(one, store)
    await until(lambda: gate.running)
    one.put(0, due("a", 20), due("b", 40))
    await until(lambda: one.committed() == (2, ""))
    one.now_ms += 60
    await until(lambda: "b" in gate.started)
    gate.finish()
    await until(lambda: {TaskFinished} <= set(one.types("b")))
    await settle()
    assert 1 == gate.started.count("b")


@pytest.mark.parametrize("when", ["before", "while it waits"])
async def test_cancelled_task_ends_at_once(bench, gate, when):
    """It does not wait until it is due."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    cancel = b'{"type":"CANCEL","object_id":"a","at_ms":1}'
    if when == "before":
        one.control.apply(b"cancel:object:a", cancel)
    one.put(0, due("a", 60_000), due("b", 60_000))
    await until(one.waiting)
    one.control.apply(b"cancel:object:a", cancel)
    one.engine.control_changed()
    await until(lambda: one.types("a") == [TaskCancelled])
    await until(lambda: ["b"] == [task.object_id for _, task in one.waiting()])


async def test_next_owner_ends_what_was_cancelled_before(bench, gate):
    """The former owner may have died before it looked at all rows."""
    store = FakeStore(dict([row("a", 60_000, 3), row("b", 60_000, 4)]))
    one = await bench(gate)
    one.control.apply(b"cancel:object:a", b'{"type":"CANCEL","object_id":"a","at_ms":1}')
    one.engine.control_changed()
    await settle()
    own(one, store, offset=6)
    await until(lambda: one.types("a") == [TaskCancelled])
    await until(lambda: ["b"] == [task.object_id for _, task in one.waiting()])


async def test_paused_kind_that_is_due_waits_for_the_end_of_its_pause(bench, gate):
    """Other kinds do not wait for it."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.control.apply(b"pause:mail", b'{"type":"PAUSE","at_ms":1}')
    one.put(0, due("mail", 10, kind="mail"), due("other", 20))
    await until(lambda: len(one.waiting()) == 2)
    one.now_ms += 20
    await until(lambda: gate.started == ["other"])
    one.control.apply(b"pause:mail", None)
    one.engine.control_changed()
    await until(lambda: gate.started == ["other", "mail"])


async def test_rows_beyond_what_memory_keeps_start_in_order(bench):
    """Only the next ones are in memory; rows that come meanwhile find their place among them."""
    worked: list[int] = []
    one = await bench(inline(lambda task: worked.append(int(task.object_id))), max_waiting_keys=4)
    one.worker.ownership.give(0)
    numbers = [*range(0, 100, 2), *range(99, 0, -2)]
    one.put(0, *(due(str(number), 10 + number) for number in numbers))
    await until(lambda: len(one.waiting()) == 100)
    for _ in range(22):
        one.now_ms += 5
        await settle()
    await until(lambda: len(worked) == 100 and not one.waiting())
    assert sorted(worked) == worked


async def test_what_waits_and_what_comes_take_turns(bench, gate):
    """Many tasks that are due at once do not hold up the log, nor the log them."""
    one = await bench(gate, concurrency=1)
    store = FakeStore(dict(row(f"due-{number}", -10, number) for number in range(6)))
    own(one, store, offset=6)
    one.put(0, *(request(f"new-{number}") for number in range(6)), start=6)
    for count in range(1, 12):
        await until(lambda count=count: len(gate.started) == count and gate.running)
        gate.finish()
    sorts = {name.partition("-")[0] for name in gate.started[1:7]}
    assert {"due", "new"} == sorts


async def test_row_that_is_no_request_is_buried(bench, gate):
    """The next one does not wait for it."""
    key, _ = row("bad", 0, 1)
    store = FakeStore({key: b"junk", **dict([row("a", 0, 2)])})
    one = await bench(gate)
    own(one, store, offset=6)
    await until(lambda: gate.started == ["a"])
    await until(lambda: one.producer.sent_to(DEAD_LETTERS))
    (letter,) = one.producer.sent_to(DEAD_LETTERS)
    assert b"junk" == letter.value
    await until(lambda: key not in store.rows)


async def test_request_of_a_clock_that_is_ahead_is_not_early(bench, gate):
    """An API with the right clock has said when; only the distribution worker that wrote the request is ahead."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    taken = one.worker.batch(0, [due("a", 600_000), request("b")])
    one.stream.put(taken._replace(records=[replace(each, timestamp=NOW_MS + 3_600_000) for each in taken.records]))
    await until(lambda: gate.started == ["b"])
    await until(one.waiting)
    ((key, _),) = one.waiting()
    assert NOW_MS + 600_000 == key.due_at_ms


async def test_counts_by_reason(bench, gate):
    """How many wait, and when the first one is due."""
    one = await bench(gate, max_attempts=5)
    store = FakeStore(dict([row("a", 90_000, 1), row("b", 60_000, 2), row("c", 70_000, 3, attempt=2)]))
    own(one, store, offset=6)
    expected = [WaitingCount("retry", 1, NOW_MS + 70_000), WaitingCount("delay", 2, NOW_MS + 60_000)]
    assert expected == [one for one in one.engine.report.waiting_counts() if one.waiting_count]


async def test_suspects_keep_a_lane_careful(bench, gate):
    """A former owner died: what it may have started of the table begins only when that is committed."""
    store = FakeStore(dict([row("a", -50, 3)]))
    one = await bench(gate)
    own(one, store, offset=6, metadata=";gone.1", members=frozenset({"member"}))
    (lane,) = one.lanes
    await until(lambda: gate.running)
    assert lane.careful
    assert lane.life.deaths
    gate.finish()
    await until(lambda: not lane.careful)
