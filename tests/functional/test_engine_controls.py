"""The engine under retries, rejections, controls, redrives and order by object."""

from __future__ import annotations

from typing import Any

import pytest
from engine_bench import NOW_MS, again, request
from fake_steps import FakeStore
from fakes import GROUP, batch, record, until
from plain_names import DEAD_LETTERS, TASK_REQUESTS

from agents.engine.lane_lines import MAX_PARKED
from app.events import (
    TaskCancelled,
    TaskCreated,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TaskStarted,
    decode_task_request,
)
from app.names import REDRIVEN_TABLE
from ebs import Reject, Retry, inline
from ebs.function import StartLimits

PAUSE = b'{"type":"PAUSE","at_ms":1,"reason":"for a test"}'


def cancel(one: Any, object_id: str) -> None:
    """Cancel an object, as the control feed would."""
    value = f'{{"type":"CANCEL","object_id":"{object_id}","at_ms":1,"reason":"not needed"}}'.encode()
    assert one.control.apply(f"cancel:object:{object_id}".encode(), value)
    one.engine.control_changed()


async def test_failed_attempt_waits_in_the_table(bench, gate):
    """TASK_FAILED and TASK_RETRIED, and the request in a row: next attempt, due time, first failure."""
    one = await bench(gate, max_attempts=5)
    one.worker.ownership.give(2)
    one.put(2, request("a"))
    await until(lambda: gate.running)
    gate.fail("a", ValueError("no such file 17"))
    await until(lambda: one.types("a") == [TaskStarted, TaskFailed, TaskRetried])
    ((_, task),) = one.waiting()
    assert (2, "ValueError: no such file 17", NOW_MS) == (
        task.attempt,
        task.first_error,
        task.first_failed_at_ms,
    )
    assert NOW_MS + 500 <= task.due_at_ms <= NOW_MS + 1_500
    failed, retried = one.events("a")[1:]
    assert ("ValueError", 12) == (failed.error_type, len(failed.fingerprint))
    assert failed.stack_trace.startswith("Traceback (most recent call last):\n  File ")
    assert failed.stack_trace.endswith("\nValueError: no such file 17\n")
    assert task.due_at_ms == retried.due_at_ms
    assert [] == one.producer.sent_to(DEAD_LETTERS)


async def test_task_says_when_it_wants_its_next_attempt(bench, gate):
    """The delay of a Retry is kept to the millisecond."""
    one = await bench(gate, max_attempts=5)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: gate.running)
    gate.fail("a", Retry(delay_s=42, reason="the server asks"))
    await until(one.waiting)
    ((key, task),) = one.waiting()
    assert NOW_MS + 42_000 == task.due_at_ms == key.due_at_ms


@pytest.mark.parametrize(("attempt", "error"), [(5, ValueError("again")), (1, Reject("never"))])
async def test_last_attempt_or_rejection_is_the_end(bench, gate, attempt, error):
    """Dead after the last attempt, or at once: one dead letter with the attempts, nothing waits."""
    one = await bench(gate, max_attempts=5)
    one.worker.ownership.give(0)
    one.put(0, request("a", attempt=attempt))
    await until(lambda: gate.running)
    gate.fail("a", error)
    await until(lambda: one.types("a") == [TaskStarted, TaskFailed, TaskDead])
    (letter,) = one.producer.sent_to(DEAD_LETTERS)
    assert str(attempt).encode() == dict(letter.headers)["retry_topic-attempts"]
    assert [] == one.waiting()


async def test_later_attempt_waits_from_its_due_time(bench, gate):
    """The wait of a retry is not that of all attempts."""
    one = await bench(gate, max_attempts=5)
    one.worker.ownership.give(0)
    one.put(0, again(request("a", attempt=2), due_at_ms=NOW_MS - 7))
    await until(lambda: one.types("a") == [TaskStarted])
    assert 7 == one.events("a")[0].wait_ms


async def test_pause_holds_what_waits_and_lets_finish_what_runs(bench, gate):
    """Nothing starts while paused, one kind or all; resuming starts it."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: "a" in gate.running)
    one.control.apply(b"pause", PAUSE)
    one.engine.control_changed()
    one.put(0, request("b"), start=1)
    gate.finish("a")
    await until(lambda: one.finished() == {"a"})
    assert ["a"] == gate.started
    one.control.apply(b"pause", None)
    one.engine.control_changed()
    await until(lambda: gate.started == ["a", "b"])


async def test_paused_kind_does_not_hold_up_others(bench, gate):
    """Other kinds of the same partition overtake it."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.control.apply(b"pause:mail", PAUSE)
    one.put(0, again(request("a"), kind="mail"), request("b"))
    await until(lambda: gate.started == ["b"])
    gate.finish("b")
    await until(lambda: one.finished() == {"b"})
    assert 0 == one.committed()[0]


async def test_cancelled_object_does_not_start(bench, gate):
    """What waits is cancelled at once, also while the pool is full; it never says TASK_STARTED."""
    one = await bench(gate, concurrency=1)
    one.worker.ownership.give(0)
    one.put(0, request("a"), request("b"), request("c"))
    await until(lambda: gate.started == ["a"])
    cancel(one, "b")
    await until(lambda: one.types("b") == [TaskCancelled])
    gate.finish("a")
    await until(lambda: gate.started == ["a", "c"])


async def test_cancelled_running_task_is_stopped(bench, gate):
    """Its handler gets CancelledError, the task ends as cancelled, and nothing of it is worked again."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: gate.running)
    cancel(one, "a")
    await until(lambda: one.types("a") == [TaskStarted, TaskCancelled])
    assert ["a"] == gate.cancelled
    await until(lambda: one.committed() == (1, ""))


async def test_run_that_is_cancelled_before_its_first_step_has_an_end(bench, gate):
    """Both in one turn of the loop: asyncio ends such a run without a word, and its place was taken for good."""
    one = await bench(gate, concurrency=1)
    one.worker.ownership.give(0)
    begin = one.engine._pool._begin

    def begin_and_cancel(attempt: Any, run: Any) -> None:
        begin(attempt, run)
        if attempt.key == b"a":
            cancel(one, "a")

    one.engine._pool._begin = begin_and_cancel
    one.put(0, request("a"), request("b"))
    await until(lambda: one.types("a") == [TaskStarted, TaskCancelled])
    await until(lambda: gate.started == ["b"])


async def test_concurrency_can_be_changed(bench, gate):
    """A smaller number lets running tasks finish and starts fewer, a larger one starts more."""
    one = await bench(gate, concurrency=1)
    one.worker.ownership.give(0)
    one.put(0, *(request(name) for name in "abc"))
    await until(lambda: gate.started == ["a"])
    one.control.apply(b"concurrency", b'{"type":"CONCURRENCY","count":3,"at_ms":1}')
    one.engine.control_changed()
    await until(lambda: gate.started == ["a", "b", "c"])


async def test_drained_worker_starts_nothing(bench, gate):
    """The others go on; what it has not started is handed back when it stops."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.control.apply(b"drain:processing-1", b'{"type":"DRAIN","at_ms":1}')
    one.engine.control_changed()
    one.put(0, request("a"))
    await until(lambda: one.stream.waiting_count == 0)
    assert [] == gate.started
    one.control.apply(b"drain:processing-1", None)
    one.engine.control_changed()
    await until(lambda: gate.started == ["a"])


async def test_paused_kind_waits_in_the_table_and_holds_up_nobody(bench):
    """The first tasks wait in memory, the others in the table; resuming works all off, in order."""
    worked: list[str] = []
    one = await bench(inline(lambda task: worked.append(task.object_id)))
    one.worker.ownership.give(0)
    one.control.apply(b"pause:mail", PAUSE)
    mails = [again(request(str(number)), kind="mail") for number in range(MAX_PARKED + 50)]
    one.put(0, *mails, request("other"))
    await until(lambda: worked == ["other"] and len(one.waiting()) == 50)
    (lane,) = one.lanes
    assert MAX_PARKED == lane.lines.parked_count
    one.control.apply(b"pause:mail", None)
    one.engine.control_changed()
    await until(lambda: len(worked) == MAX_PARKED + 51)
    assert ["other", *map(str, range(MAX_PARKED + 50))] == worked
    await until(lambda: not one.waiting() and one.committed() == (MAX_PARKED + 51, ""))
    assert lane.lines.is_empty


@pytest.mark.parametrize("how", ["kind", "object"])
async def test_cancelled_queue_is_fetched_on(bench, gate, how):
    """A queue that is emptied by a cancel is as empty as one that was worked off: its partition is fetched again."""
    one = await bench(gate, concurrency=1)
    one.worker.ownership.give(0)
    junk = [again(request("junk"), task_id=f"junk-{number}", sequence=number, kind="junk") for number in range(2_000)]
    one.put(0, *junk)
    (lane,) = one.lanes
    await until(lambda: lane.held and gate.running)
    if how == "kind":
        value = f'{{"type":"CANCEL","kind":"junk","created_before_ms":{NOW_MS}}}'.encode()
        one.control.apply(b"cancel:filter:junk", value)
        one.engine.control_changed()
    else:
        cancel(one, "junk")
    await until(lambda: one.committed() == (2_000, ""))
    assert frozenset() == one.worker.ownership.held
    assert "" == one.engine.report.could_go_on()


async def test_cancel_of_every_second_task_leaves_the_others_a_start(bench):
    """The progress of such a partition does not fit into a commit: what holds its watermark may start all the same."""
    worked: list[str] = []
    one = await bench(inline(lambda task: worked.append(task.object_id)), commit_interval_s=0.01)
    one.worker.ownership.give(0)
    one.control.apply(b"drain:processing-1", b'{"type":"DRAIN","at_ms":1}')
    count = 16_000
    names = ["junk" if number % 2 else f"good-{number}" for number in range(count)]
    one.put(0, *(again(request(name), task_id=f"{name}-{number}") for number, name in enumerate(names)))
    (lane,) = one.lanes
    await until(lambda: len(lane.waiting) == count)
    cancel(one, "junk")
    await until(lambda: lane.crowded)
    assert lane.progress.encode() is None
    one.control.apply(b"drain:processing-1", None)
    one.engine.control_changed()
    await until(lambda: len(worked) == count // 2)
    await until(lambda: one.committed() == (count, ""))


async def test_parked_tasks_of_a_lost_partition_are_forgotten(bench, gate):
    """The partition may come back while the pause still holds: each task runs once then."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.control.apply(b"pause", PAUSE)
    one.put(0, request("a"))
    (lane,) = one.lanes
    await until(lambda: lane.lines.parked_count == 1)
    one.worker.ownership.take_away(0)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: [1] == [lane.lines.parked_count for lane in one.lanes])
    one.control.apply(b"pause", None)
    one.engine.control_changed()
    await until(lambda: gate.running)
    gate.finish("a")
    await until(lambda: one.finished() == {"a"})
    assert ["a"] == gate.started


async def test_rate_limits_a_kind(bench, gate):
    """Tasks of a kind start no faster than its rate; others do not wait for them."""
    one = await bench(gate, concurrency=100)
    for number in range(4):
        one.worker.ownership.give(number)
    one.control.apply(b"rate:default", b'{"type":"RATE","kind":"default","per_s":0.01,"at_ms":1}')
    one.engine.control_changed()
    one.put(0, *(request(f"slow-{number}") for number in range(10)), again(request("quick"), kind="mail"))
    await until(lambda: "quick" in gate.started)
    assert ["quick"] == gate.started


async def test_limited_kind_holds_up_nobody_and_says_why_it_waits(bench, gate):
    """However many tasks wait for a rate or a pause: those behind them start; a cancel ends the ones in the table."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.control.apply(b"rate:mail", b'{"type":"RATE","kind":"mail","per_s":0.01,"at_ms":1}')
    one.engine.control_changed()
    count = MAX_PARKED + 500
    mails = [again(request("mail"), task_id=f"mail-{number}", kind="mail") for number in range(count)]
    one.put(0, *mails, request("behind"))
    await until(lambda: gate.started == ["behind"])

    def waiting() -> dict[str, int]:
        counts = one.engine.report.waiting_counts()
        return {one.reason: one.waiting_count for one in counts if one.waiting_count}

    assert {"rate": count} == waiting()
    await until(lambda: "" == one.engine.report.could_go_on())
    one.control.apply(b"rate:mail", None)
    one.control.apply(b"pause:mail", PAUSE)
    one.engine.control_changed()
    await until(lambda: {"paused": count} == waiting())
    value = f'{{"type":"CANCEL","kind":"mail","created_before_ms":{NOW_MS}}}'.encode()
    one.control.apply(b"cancel:filter:x", value)
    one.engine.control_changed()
    await until(lambda: {} == waiting() and not one.waiting())
    assert count == one.types("mail").count(TaskCancelled)


async def test_tasks_of_an_object_run_one_after_another(bench, gate):
    """With order by object a second task of it waits for the first one's end; other objects do not."""
    one = await bench(gate, starts=StartLimits(per_key=1))
    one.worker.ownership.give(0)
    second = again(request("a"), task_id="a-1", sequence=1)
    one.put(0, request("a"), second, request("b"))
    await until(lambda: gate.started == ["a", "b"])
    gate.finish("a")
    await until(lambda: gate.started == ["a", "b", "a"])
    gate.finish("a")
    await until(lambda: [TaskStarted, TaskFinished] * 2 == one.types("a"))


def requests_of(object_id: str, count: int) -> list[bytes]:
    """Return the requests of an object's tasks."""
    return [again(request(object_id), task_id=f"{object_id}-{number}", sequence=number) for number in range(count)]


async def test_turn_of_an_object_passes_over_what_ends_without_a_start(bench, gate):
    """A task whose turn it is may be cancelled, or be a second redrive: the next one of its object starts instead."""
    one = await bench(gate, starts=StartLimits(per_key=1))
    stores = {REDRIVEN_TABLE: FakeStore()}
    one.worker.ownership.give(0, stores=stores)
    first, second, third, last = requests_of("a", 4)
    redriven = again(third, redrive=1)
    one.put(0, first, second, redriven, redriven, last)
    await until(lambda: gate.started == ["a"])
    one.control.apply(b"cancel:task:a-1", b'{"type":"CANCEL","task_id":"a-1","at_ms":1}')
    one.engine.control_changed()
    for count in (2, 3):
        gate.finish("a")
        await until(lambda count=count: len(gate.started) == count)
    gate.finish("a")
    await until(lambda: one.committed() == (5, ""))
    ends = [event.task_id for event in one.events() if isinstance(event, TaskFinished | TaskCancelled)]
    assert ["a-1", "a-0", "a-2", "a-3"] == ends


async def test_turn_of_an_object_passes_over_a_lost_partition(bench, gate):
    """A partition that goes and comes back while a task of the object ends: what was parked before stops nobody."""
    one = await bench(gate, starts=StartLimits(per_key=1))
    one.worker.ownership.give(0)
    one.put(0, *requests_of("a", 3))
    await until(lambda: gate.started == ["a"])
    one.worker.ownership.take_away(0)
    one.worker.ownership.give(0)
    one.put(0, *requests_of("a", 3))
    for count in (2, 3, 4):
        await until(lambda count=count: len(gate.started) == count and gate.running)
        gate.finish("a")
    await until(lambda: one.committed() == (3, ""))
    assert ["a"] == gate.cancelled


async def test_two_redrives_at_once_make_one_run(bench, gate):
    """The second request of the same generation is passed over, also by a later life; the first one is worked."""
    one = await bench(gate)
    stores = {REDRIVEN_TABLE: FakeStore()}
    one.worker.ownership.give(0, stores=stores)
    redriven = again(request("a"), redrive=1)
    one.put(0, redriven, redriven)
    await until(lambda: gate.running)
    gate.finish("a")
    await until(lambda: one.committed() == (2, ""))
    assert ["s-a-0-r1-1", "f-a-0-r1"] == [event.id for event in one.events("a")]
    assert {TaskCreated} == {type(decode_task_request(redriven))}


async def test_second_redrive_is_known_to_the_next_life(bench, gate):
    """The row that says so is committed with the first one's start, and found by whoever owns the partition then."""
    first = await bench(gate)
    store = FakeStore()
    first.worker.ownership.give(0, stores={REDRIVEN_TABLE: store})
    redriven = again(request("a"), redrive=1)
    first.put(0, redriven)
    await until(lambda: store.rows and first.types("a") == [TaskStarted])

    second = await bench(gate)
    second.worker.ownership.give(0, offset=1, stores={REDRIVEN_TABLE: store})
    second.put(0, redriven, request("b"), start=1)
    await until(lambda: "b" in gate.started)
    assert ["a", "b"] == gate.started
    gate.finish("b")
    await until(lambda: second.committed() == (3, ""))


async def test_redriven_rows_go_by_stream_time(bench):
    """Rows older than a day go when younger records come, by tombstones in the changelog; the younger ones stay."""
    one = await bench(inline(lambda _task: None))
    store = FakeStore()
    one.worker.ownership.give(0, stores={REDRIVEN_TABLE: store})
    hour_ms = 3_600_000
    for offset, hours in enumerate((0, 20, 40, 41)):
        value = again(request(f"at-{hours}h"), redrive=1)
        records = [record(TASK_REQUESTS, 0, offset, value, timestamp_ms=NOW_MS + hours * hour_ms)]
        one.stream.put(
            batch(TASK_REQUESTS, 0, records, assignment=one.worker.ownership.assignment, start=offset, end=offset + 1)
        )
        await until(lambda offset=offset: one.producer.offsets and one.committed() == (offset + 1, ""))
    assert ["at-20h-0-r1", "at-40h-0-r1", "at-41h-0-r1"] == [key[6:].decode() for key in sorted(store.rows)]
    changes = one.producer.sent_to(f"{GROUP}-{REDRIVEN_TABLE}-changelog")
    assert ["at-0h-0-r1"] == [change.key[6:].decode() for change in changes if change.value is None]
