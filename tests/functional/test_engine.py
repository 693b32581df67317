"""The processing engine over topics in memory: order, restarts, failures, lost partitions, limits, the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from aiokafka import TopicPartition
from engine_bench import NOW_MS, PARTITIONS, Gate, request
from fakes import ProcessEnded, settle, until
from loaded_handlers import in_hand, limits
from plain_names import DEAD_LETTERS, TASK_EVENTS, TASK_REQUESTS
from running_handlers import eventually

from agents.execution.loading import Handlers
from app.errors import StepFailed
from app.events import (
    TaskCreated,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TaskStarted,
    decode_task_request,
)
from app.rules.offsets import PartitionProgress
from ebs import Retry, inline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fakes import Sent


GATHER_S = 2.0
"""Long beside the moments between a test's failures, on a machine that stands still for a second too."""


def unfinished(committed: tuple[int, str], count: int) -> list[int]:
    """Return which of the first `count` offsets the next owner of a partition works."""
    progress = PartitionProgress(*committed)
    return [offset for offset in range(committed[0], count) if progress.take(offset)]


def buried(records: Iterable[Sent]) -> set[str]:
    """Return the objects whose requests are among the dead letters of some records."""
    return {decode_task_request(sent.value or b"").object_id for sent in records if sent.topic == DEAD_LETTERS}


async def test_task_is_started_and_finished_with_the_time_really_spent(bench, gate):
    """Both events, in this order, in the object's partition, under the object's key."""
    one = await bench(gate)
    one.worker.ownership.give(2)
    one.put(2, request("a", partition=3))
    await until(lambda: gate.running)
    gate.finish(result={"pages": 3})
    await until(lambda: one.finished() == {"a"})
    started, finished = one.events("a")
    assert (TaskStarted, "s-a-0-1", NOW_MS, 12, "processing-1") == (
        type(started),
        started.id,
        started.at_ms,
        started.wait_ms,
        started.worker,
    )
    assert (TaskFinished, "f-a-0", 3, 12, b'{"pages":3}') == (
        type(finished),
        finished.id,
        finished.object_partition,
        finished.wait_ms,
        bytes(finished.result),
    )
    assert 0 <= finished.spent_ms < 10_000
    assert {(3, b"a")} == {(sent.partition, sent.key) for sent in one.producer.sent_to(TASK_EVENTS)}
    assert (1, "") == one.committed(2)


async def test_start_is_visible_before_the_end(bench, gate):
    """Who looks sees what runs now."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: one.types() == [TaskStarted])
    assert (["a"], 1) == (list(gate.running), len(list(one.engine.running)))
    assert 0 == one.committed()[0]


async def test_slow_task_holds_up_nobody(bench, gate):
    """The others' results are visible, and what is finished above the slow one is committed beside the watermark."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, *(request(name) for name in "abcdef"))
    await until(lambda: len(gate.running) == 6)
    gate.finish("f", "b", "d", "e")
    await until(lambda: one.finished() == set("bdef"))
    assert 0 == one.committed()[0]
    assert [0, 2] == unfinished(one.committed(), 6)
    gate.finish("a", "c")
    await until(lambda: one.finished() == set("abcdef"))
    assert (6, "") == one.committed()


async def test_restart_works_exactly_the_unfinished_and_starts_none_twice(bench, gate):
    """After a crash the next owner goes on from what was committed; a task that said TASK_STARTED says it once."""
    first = await bench(gate)
    first.worker.ownership.give(0)
    first.put(0, *(request(name) for name in "abc"))
    await until(lambda: len(gate.running) == 3)
    gate.finish("b")
    await until(lambda: first.finished() == {"b"})
    offset, metadata = first.committed()

    again = Gate()
    second = await bench(again)
    second.worker.ownership.give(0, offset=offset, metadata=metadata)
    second.put(0, *(request(name) for name in "abcd"))
    await until(lambda: len(again.running) == 3)
    again.finish()
    await until(lambda: second.finished() == set("acd"))
    assert ["a", "c", "d"] == again.started
    assert Counter([TaskStarted] * 4 + [TaskFinished] * 4) == Counter(first.types() + second.types())
    assert (4, "") == second.committed()


async def test_error_of_a_handler_fails_its_task_and_nothing_else(bench, gate):
    """TASK_FAILED, TASK_DEAD, and the request with its bytes in the dead letters; the watermark goes on."""
    one = await bench(gate)
    one.worker.ownership.give(1)
    one.put(1, request("a", partition=3), request("b"))
    await until(lambda: len(gate.running) == 2)
    gate.fail("a", ValueError("no such page"))
    gate.finish("b")
    await until(lambda: one.finished() == {"b"} and one.types("a")[-1:] == [TaskDead])
    assert [TaskStarted, TaskFailed, TaskDead] == one.types("a")
    failed, dead = one.events("a")[1:]
    assert ("ValueError: no such page", "ValueError: no such page") == (failed.error, dead.error)
    (letter,) = one.producer.sent_to(DEAD_LETTERS)
    assert (1, request("a", partition=3)) == (letter.partition, letter.value)
    headers = dict(letter.headers)
    assert (b"task-requests", b"1", b"0", b"1", b"no such page") == tuple(
        headers[name]
        for name in (
            "kafka_dlt-original-topic",
            "kafka_dlt-original-partition",
            "kafka_dlt-original-offset",
            "retry_topic-attempts",
            "kafka_dlt-exception-message",
        )
    )
    assert (b"default", b"a-0", b"a", b"0") == tuple(
        headers[name] for name in ("ebs-kind", "ebs-task-id", "ebs-object-id", "ebs-redrive")
    )
    assert (2, "") == one.committed(1)


ODD_ERRORS = [
    (ValueError("half \ud83d"), r"ValueError: half \ud83d"),
    (ValueError("x" * 5_000_000), "ValueError: xxx"),
    (asyncio.CancelledError("of its own"), "HandlerError: handler tests:handler raised CancelledError: of its own"),
    (StopAsyncIteration("done"), "StopAsyncIteration: done"),
]


@pytest.mark.parametrize(("error", "said"), ODD_ERRORS, ids=["half a character", "long", "cancelled", "iteration"])
async def test_odd_errors_fail_their_task_like_any_other(bench, gate, error, said):
    """No error of a handler leaves its task open for ever, or makes a record that the broker refuses."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: gate.running)
    gate.fail("a", error)
    await until(lambda: one.types("a") == [TaskStarted, TaskFailed, TaskDead])
    assert one.events("a")[1].error.startswith(said)
    assert 100_000 > max(one.producer.batch_sizes)
    assert (1, "") == one.committed()
    assert 0 == len(list(one.engine.running))


@pytest.mark.parametrize("result", [object(), {(1, 2): 3}, "\ud83d", "x" * 100_000])
async def test_result_that_cannot_be_kept_fails_its_task(bench, gate, result):
    """Neither what is no JSON nor what is too large keeps a task open for ever."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: gate.running)
    gate.finish(result=result)
    await until(lambda: one.types("a") == [TaskStarted, TaskFailed, TaskDead])
    assert (1, "") == one.committed()
    assert 0 == len(list(one.engine.running))


async def test_request_that_is_too_large_for_another_attempt_dies_with_the_first(bench, gate):
    """Compressed it got in. The worker and its other tasks go on; the letter names both errors."""
    one = await bench(gate, max_attempts=5)
    one.worker.ownership.give(0)
    one.put(0, request("a").replace(b"some content", b"x" * 1_100_000), request("b"))
    await until(lambda: len(gate.running) == 2)
    gate.fail("a", ValueError("no such page"))
    gate.finish("b")
    await until(lambda: one.finished() == {"b"} and one.types("a")[-1:] == [TaskDead])
    assert [TaskStarted, TaskFailed, TaskDead] == one.types("a")
    (letter,) = one.producer.sent_to(DEAD_LETTERS)
    headers = dict(letter.headers)
    message = headers["kafka_dlt-exception-message"].decode()
    assert message.startswith(
        "no further attempt, because ebs-processing-waiting-changelog takes at most 1048588 bytes a record"
    )
    assert message.endswith("It failed with ValueError: no such page")
    assert (b"a-0", 65_536) == (headers["ebs-task-id"], len(letter.value or b""))
    assert (2, "") == one.committed()


async def test_result_that_its_topic_does_not_take_is_none(bench, gate):
    """Somebody has set the topic to less than EBS_MAX_RESULT_BYTES: the task dies and says so, the worker goes on."""
    one = await bench(gate, max_attempts=5)
    one.worker.transactions.topic_limits.record_bytes[TASK_EVENTS] = 20_000
    one.worker.ownership.give(0)
    one.put(0, request("a"), request("b"))
    await until(lambda: len(gate.running) == 2)
    gate.finish("a", result="x" * 30_000)
    gate.finish("b")
    await until(lambda: one.finished() == {"b"} and one.types("a")[-1:] == [TaskDead])
    assert one.events("a")[-1].error.startswith("Reject: the result is too large: task-events takes at most 20000")


BAD_REQUESTS = [
    None,
    b"",
    b"garbage",
    b'{"type":"TASK_CREATED"}',
    b"[" * 20_000,
    request("z", partition=PARTITIONS),
    request("z").replace(b'"default"', b'"' + b"k" * 1_001 + b'"'),
]


@pytest.mark.parametrize(
    "value", BAD_REQUESTS, ids=["tombstone", "empty", "garbage", "fields", "deep", "partition", "kind"]
)
async def test_request_that_cannot_be_worked_goes_to_the_dead_letters(bench, gate, value):
    """One record is lost to work, none after it; the header says why."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, request("a"), value, request("b"))
    await until(lambda: len(gate.running) == 2)
    gate.finish()
    await until(lambda: one.finished() == {"a", "b"})
    (letter,) = one.producer.sent_to(DEAD_LETTERS)
    headers = dict(letter.headers)
    assert (value, b"1", b"0", b"app.errors.DecodeError") == (
        letter.value,
        headers["kafka_dlt-original-offset"],
        headers["retry_topic-attempts"],
        headers["kafka_dlt-exception-fqcn"],
    )
    assert headers["kafka_dlt-exception-message"]
    assert (3, "") == one.committed()


async def test_lost_partition_is_let_go_of(bench, gate):
    """Its tasks are cancelled and what they left is not sent: it all belongs to the next owner."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.worker.ownership.give(1)
    one.put(0, request("lost"), request("finished too late"))
    one.put(1, request("kept"))
    await until(lambda: len(gate.running) == 3 and len(one.events()) == 3)
    await one.worker.transactions.suspend()
    gate.finish("finished too late")
    await settle()
    one.worker.ownership.take_away(0)
    one.worker.transactions.resume([1], one.worker.ownership.membership, one.worker.ownership.assignment)
    gate.finish("kept")
    await until(lambda: one.finished() == {"kept"})
    await settle()
    assert ["lost"] == gate.cancelled
    assert [TaskStarted] == one.types("finished too late")
    assert 0 == one.committed(0)[0]
    assert 0 == len(list(one.engine.running))


async def test_handler_that_will_not_be_cancelled_is_not_heard(bench):
    """A task that ends after its partition is gone counts at the next owner only."""
    ending = asyncio.Event()

    async def stubborn(_task: TaskCreated) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await ending.wait()
        return "late"

    one = await bench(stubborn)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: one.types() == [TaskStarted])
    one.worker.ownership.take_away(0)
    await settle()
    ending.set()
    await until(lambda: len(list(one.engine.running)) == 0)
    await one.engine.drain(60)
    assert [TaskStarted] == one.types()


async def test_partition_that_comes_back_continues_where_it_was_committed(bench, gate):
    """Nothing of the time before is remembered."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, request("a"), request("b"))
    await until(lambda: len(gate.running) == 2 and len(one.events()) == 2)
    one.worker.ownership.take_away(0)
    await until(lambda: not gate.running)
    one.worker.ownership.give(0, offset=1)
    one.put(0, request("a"), request("b"))
    await until(lambda: list(gate.running) == ["b"])
    gate.finish("b")
    await until(lambda: one.finished() == {"b"})
    assert (2, "") == one.committed()


async def test_records_of_a_partition_that_is_not_ours_are_ignored(bench, gate):
    """They were fetched before a rebalance, or before the restore ended."""
    one = await bench(gate)
    one.put(3, request("a"))
    one.worker.ownership.give(0)
    one.put(0, request("b"))
    await until(lambda: gate.running)
    assert ["b"] == gate.started


async def test_partition_that_was_ready_first_is_worked(bench, gate):
    """An agent may begin after its partitions."""
    one = await bench(gate, owned=2)
    one.put(2, request("a"))
    await until(lambda: gate.running)
    gate.finish()
    await until(lambda: one.finished() == {"a"})


async def test_missing_records_end_the_process(bench, gate):
    """A hole is never passed over, and never leaves the agent as an error that Faust would swallow."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, request("a"), start=5)
    await until(one.running.done)
    (error,) = one.worker.fatal.errors
    assert isinstance(error, StepFailed)
    assert type(one.running.exception()).__name__ == "ProcessEnded"
    one.running = asyncio.create_task(settle())


async def test_no_more_tasks_run_than_allowed(bench, gate):
    """The pool is one for all partitions; each end makes room for one start."""
    one = await bench(gate, concurrency=3)
    for number in range(2):
        one.worker.ownership.give(number)
        one.put(number, *(request(f"{number}{name}") for name in "abcd"))
    for _ in range(8):
        await until(lambda: gate.running)
        await settle()
        assert len(list(one.engine.running)) == len(gate.running) <= 3
        gate.finish(next(iter(gate.running)))
    await until(lambda: len(one.finished()) == 8)
    assert 3 == gate.most_running


async def test_partitions_take_turns(bench, gate):
    """A partition with a long queue does not starve the others."""
    one = await bench(gate, concurrency=1)
    for number in range(3):
        one.worker.ownership.give(number)
    one.put(0, *(request(f"0{name}") for name in "abcd"))
    one.put(1, request("1a"), request("1b"))
    one.put(2, request("2a"))
    await until(lambda: one.stream.waiting_count == 0)
    while len(one.finished()) < 7:
        await until(lambda: gate.running or len(one.finished()) == 7)
        if gate.running:
            gate.finish()
        await settle()
    assert sorted(["0a", "0b", "1a", "1b", "2a"]) == sorted(gate.started[:5])
    assert ["0c", "0d"] == gate.started[5:]


async def test_full_queue_holds_its_partition_until_half_is_worked(bench):
    """Back-pressure: fetching of this partition pauses, and goes on before the queue is empty."""
    ending = asyncio.Event()

    async def wait(_task: TaskCreated) -> None:
        await ending.wait()

    one = await bench(wait, concurrency=8)
    one.worker.ownership.give(0)
    one.worker.ownership.give(1)
    one.put(0, *(request(str(number)) for number in range(1_200)))
    await until(lambda: one.worker.ownership.held)
    assert {TopicPartition(TASK_REQUESTS, 0)} == one.worker.ownership.held
    ending.set()
    await until(lambda: not one.worker.ownership.held)
    waiting = 1_200 - len(one.finished()) - len(list(one.engine.running))
    assert 300 < waiting < 700


async def test_lost_partition_is_held_no_more(bench, gate):
    """Or it would stay closed when it comes back."""
    one = await bench(gate, concurrency=1)
    one.worker.ownership.give(0)
    one.put(0, *(request(str(number)) for number in range(1_100)))
    await until(lambda: one.worker.ownership.held)
    one.worker.ownership.take_away(0)
    assert frozenset() == one.worker.ownership.held


async def test_drain_lets_running_tasks_end_and_starts_none(bench, gate):
    """What has not begun is handed back: the committed offset stays below it."""
    one = await bench(gate, concurrency=2)
    one.worker.ownership.give(0)
    one.put(0, *(request(name) for name in "abcd"))
    await until(lambda: len(gate.running) == 2)
    draining = asyncio.create_task(one.engine.drain(60))
    gate.finish("b")
    await settle()
    assert not draining.done()
    gate.finish("a")
    await draining
    await one.worker.transactions.stop()
    assert ({"a", "b"}, ["a", "b"]) == (one.finished(), gate.started)
    assert [2, 3] == unfinished(one.committed(), 4)


async def test_drain_gives_up_at_its_limit(bench, gate, caplog):
    """A task that does not end in time is handed back too, and the log says so."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: one.types() == [TaskStarted])
    await one.engine.drain(0)
    assert "1 tasks still run after 0 s" in caplog.text
    assert [0] == unfinished(one.committed(), 1)


async def test_drain_of_an_idle_engine_is_done_at_once(bench, gate):
    """Nothing runs, nothing waits to be committed."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    await one.engine.drain(60)
    assert [] == one.producer.commits


async def test_markers_advance_the_watermark(bench, gate):
    """A partition without records to work still commits how far it was read."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, end=5)
    await one.producer.commits_reach(1)
    assert (5, "") == one.committed()


async def test_failed_commit_ends_the_process(bench, gate):
    """The committer never goes on after a doubt."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.producer.failures["commit"] = OSError("the broker is away")
    one.put(0, request("a"))
    await until(lambda: one.worker.fatal.errors)
    gate.finish()
    await settle()
    assert ["the broker is away"] == [str(error) for error in one.worker.fatal.errors]


async def test_fault_of_our_own_at_the_end_of_an_attempt_ends_the_worker(bench, gate):
    """The event loop would only log it, and the task would be neither finished nor waiting."""
    one = await bench(gate)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: gate.running)
    (lane,) = one.lanes
    lane.progress = None
    gate.finish()
    await until(lambda: one.worker.fatal.errors)
    assert [AttributeError] == [type(error) for error in one.worker.fatal.errors]


async def test_inline_handler_is_called_without_a_task(bench):
    """Thousands of tasks that take no time: in order, each started and finished, errors told like any other."""

    @inline
    def handler(task: TaskCreated) -> str:
        if task.object_id == "7":
            raise ValueError("seven")
        return task.object_id

    one = await bench(handler)
    one.worker.ownership.give(0)
    one.put(0, *(request(str(number)) for number in range(1_000)))
    await until(lambda: one.producer.offsets and one.committed() == (1_000, ""))
    assert Counter({TaskStarted: 1_000, TaskFinished: 999, TaskFailed: 1, TaskDead: 1}) == Counter(one.types())
    assert [str(number) for number in range(1_000)] == [
        event.object_id for event in one.events() if isinstance(event, TaskStarted)
    ]
    assert 1 == len(one.producer.sent_to(DEAD_LETTERS))


async def test_inline_tasks_leave_time_for_others(bench):
    """Other coroutines, the heartbeat's among them, get their turn between bursts."""
    worked: list[str] = []
    one = await bench(inline(lambda task: worked.append(task.object_id)))
    one.worker.ownership.give(0)
    one.put(0, *(request(str(number)) for number in range(1_000)))
    await until(lambda: worked)
    assert 300 > len(worked)
    await until(lambda: len(worked) == 1_000)


async def test_commits_keep_their_distance_unless_much_is_waiting(bench):
    """The first one comes at once, the next one after the interval; thousands of events do not wait for it."""
    one = await bench(inline(lambda _task: None), commit_interval_s=3_600)
    one.worker.ownership.give(0)
    commit_counts = []
    for start, end in ((0, 1), (1, 2), (2, 2_500), (2_500, 2_501)):
        one.put(0, *(request(str(number)) for number in range(start, end)), start=start)
        await settle(200)
        commit_counts.append(len(one.producer.commits))
    assert [1, 1, 2, 2] == commit_counts


async def test_failures_after_a_first_one_are_committed_together(bench, gate):
    """The first one at once; those of the next moments count as not done until all of them go in one transaction."""
    one = await bench(gate, gather_s=GATHER_S)
    one.worker.ownership.give(0)
    one.put(0, *(request(name) for name in "abcd"))
    await until(lambda: len(one.types()) == 4)
    for name in "abc":
        gate.fail(name, ValueError("no such page"))
        await settle()
    gate.finish("d")
    await until(lambda: one.finished() == {"d"})
    assert [TaskFailed, TaskDead] == one.types("a")[1:]
    assert [TaskStarted] * 2 == one.types("b", "c")
    assert [1, 2] == unfinished(one.committed(), 4)
    assert not one.lanes.is_settled
    await eventually(lambda: one.committed() == (4, ""))
    carrying = [buried(commit) for commit in one.producer.commits]
    assert [{"a"}, {"b", "c"}] == [ids for ids in carrying if ids]
    assert ([TaskStarted, TaskFailed, TaskDead] * 2, True) == (one.types("b") + one.types("c"), one.lanes.is_settled)


async def test_many_failures_do_not_wait(bench):
    """What they leave would fill the memory; a thousand are reason enough for a commit."""

    async def failing(_task: TaskCreated) -> None:
        raise ValueError("no such page")

    one = await bench(failing, gather_s=3_600)
    one.worker.ownership.give(0)
    one.put(0, request("first"))
    await until(lambda: buried(one.producer.records) == {"first"})
    one.put(0, *(request(str(number)) for number in range(1_000)), start=1)
    await until(lambda: one.committed() == (1_001, ""))


async def test_failure_of_a_lost_partition_is_not_logged(bench, gate):
    """Not while it waits for others either: its task belongs to the next owner, which runs it again."""
    one = await bench(gate, gather_s=GATHER_S)
    one.worker.ownership.give(0)
    one.worker.ownership.give(1)
    one.put(0, request("lost"))
    one.put(1, request("first"), request("kept"))
    await until(lambda: len(one.types()) == 3)
    for name in ("first", "lost", "kept"):
        gate.fail(name, ValueError("no such page"))
        await settle()
    one.worker.ownership.take_away(0)
    await eventually(lambda: one.committed(1) == (2, ""))
    assert ([TaskStarted], 0) == (one.types("lost"), one.committed(0)[0])
    assert {"first", "kept"} == buried(one.producer.records)


async def test_finished_tasks_whose_records_were_lost_end_the_worker(bench, gate):
    """They are noted above the committed offset: other tasks have their offsets now, and would count as finished."""
    left = PartitionProgress(0)
    for offset in range(10):
        left.take(offset)
        left.start(offset)
    left.finish(9)
    one = await bench(gate)
    with pytest.raises(ProcessEnded):
        one.worker.ownership.give(0, metadata=left.encode() or "", kept_to=9, end=20)
    (error,) = one.worker.fatal.errors
    assert "up to offset 10, but the broker has lost its records from 9 on" in str(error)
    one.worker.ownership.give(1, metadata=left.encode() or "", kept_to=10, end=20)


async def test_partition_taken_over_full_of_holes_is_worked_off(bench, gate):
    """Metadata near its limit must not keep the next owner from starting what the last one left open."""
    left = PartitionProgress(0)
    for offset in range(3_000):
        left.take(offset)
        left.start(offset)
    metadata: str | None = ""
    for offset in range(1, 3_000, 2):
        if (metadata := left.encode()) is not None and len(metadata) > 3_000:
            break
        left.finish(offset)
    assert metadata
    expected = unfinished((0, metadata), 3_000)
    one = await bench(gate, concurrency=1)
    one.worker.ownership.give(0, metadata=metadata)
    one.put(0, *(request(str(number)) for number in range(3_000)))
    for _ in range(5):
        await until(lambda: gate.running)
        await settle(100)
        gate.finish()
        await until(lambda: not gate.running)
    assert [str(offset) for offset in expected[:5]] == gate.started[:5]


class Panic(BaseException):
    """An error that is no Exception, such as those of Rust extensions."""


class BareRetry(Retry):
    """A Retry whose author did not call the constructor of its base."""

    def __init__(self) -> None:
        """Leave out all that there should be."""


class EndlessRetry(Retry):
    """A Retry whose delay was made nonsense of."""

    def __init__(self) -> None:
        super().__init__()
        self.delay_s = "soon"  # type: ignore[assignment]


class RefusingFloat(float):
    """A number whose class ends the process that asks how large it is."""

    def __lt__(self, other: float) -> bool:
        """Compare with nothing."""
        raise SystemExit(2)

    __le__ = __gt__ = __ge__ = __lt__


class RefusingRetry(Retry):
    """A Retry whose delay cannot be looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.delay_s = RefusingFloat(3)


@pytest.mark.parametrize(
    "error",
    [
        Panic("index"),
        GeneratorExit(),
        asyncio.CancelledError(),
        SystemExit(2),
        BareRetry(),
        EndlessRetry(),
        RefusingRetry(),
    ],
)
@pytest.mark.parametrize("sort", ["coroutine", "inline"])
async def test_whatever_is_raised_is_a_failed_attempt(bench, sort, error, caplog):
    """The task is tried again, the log says so, and the watermark goes on."""

    async def coroutine(_task: TaskCreated) -> None:
        raise error

    @inline
    def at_once(_task: TaskCreated) -> None:
        raise error

    one = await bench(coroutine if sort == "coroutine" else at_once, max_attempts=2)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: len(one.types()) == 3)
    assert [TaskStarted, TaskFailed, TaskRetried] == one.types("a")
    await until(lambda: one.committed() == (1, ""))
    (said,) = [line for line in caplog.messages if "task a-0 of object a, kind default, attempt 1 failed" in line]
    assert type(error).__name__ in said


async def test_handler_that_cancels_all_runs_leaves_none_without_an_end(bench):
    """Its own run and those of others: each is a failed attempt."""

    async def cancel_all(task: TaskCreated) -> None:
        if task.object_id == "b":
            for attempt in list(one.engine.running):
                attempt.running.cancel()
        await asyncio.Event().wait()

    one = await bench(cancel_all)
    one.worker.ownership.give(0)
    one.put(0, request("a"), request("b"))
    await until(lambda: len(one.types()) == 6)
    dead = [event for event in one.events() if isinstance(event, TaskDead)]
    assert {"a", "b"} == {event.object_id for event in dead}
    assert all("cancelled, but not by ebs" in event.error for event in dead)
    await until(lambda: one.committed() == (2, ""))


async def test_what_is_too_much_for_one_transaction_goes_with_several(bench, gate):
    """Large results of many tasks that end together: the partitions take turns, each with all that it has."""
    large = in_hand(lambda task, _context: gate(task), mode="coroutine", within=limits(max_result_bytes=1_000_000))
    one = await bench(None, handlers=Handlers(large, {}), concurrency=100)
    for partition in (0, 1):
        one.worker.ownership.give(partition)
        one.put(partition, *(request(f"{partition}-{number}", partition=partition) for number in range(40)))
    await until(lambda: len(gate.running) == 80)
    await until(lambda: one.lanes.is_settled)
    committed_count = len(one.producer.calls)
    gate.finish(result="x" * 800_000)
    await until(lambda: len(one.finished()) == 80)
    transactions = " ".join(one.producer.calls[committed_count:]).split("commit")
    assert [40, 40] == [count for calls in transactions if (count := calls.count("send")) > 1]
