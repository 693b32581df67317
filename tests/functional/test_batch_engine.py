"""Batch functions in the engine: each task has its own events, retries and end; a call takes one place."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from batch_functions import CALLS
from engine_bench import Bench, Gate, request
from fakes import settle, until
from loaded_handlers import by_name, in_hand
from plain_names import DEAD_LETTERS, OBJECTS
from running_handlers import eventually

from agents.execution.loading import Handlers
from app.events import TaskCancelled, TaskDead, TaskFailed, TaskFinished, TaskRetried, TaskStarted
from app.rules.offsets import PartitionProgress
from app.rules.owner_lives import Life, join_metadata

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Meeting:
    """A batch function whose calls last until the test lets them end."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.let_go = asyncio.Event()

    async def __call__(self, _request: Any, context: Any) -> list[str]:
        """Note which tasks there are, and wait."""
        self.calls.append([one.task.object_id for one in context.contexts])
        await self.let_go.wait()
        return ["done"] * len(context.contexts)


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """Return a function that starts an engine with the kinds `batch` and `other`; all are stopped at the end."""
    benches: list[Bench] = []
    CALLS.clear()

    async def make(function: Any = None, *, size: int = 4, wait_s: float = 0.02, **options: Any) -> Bench:
        loaded = by_name("coroutine", project="batch_functions")
        assert loaded.batch is not None
        batch = loaded.batch._replace(size=size, wait_s=wait_s)
        changed = {"batch": batch} | ({"function": function} if function is not None else {})
        gate = options.pop("gate", Gate())
        other = in_hand(lambda task, _context: gate(task), "tests:other", mode="coroutine")
        handlers = Handlers(other, {"batch": replace(loaded, **changed)})
        one = Bench(gate, handlers=handlers, **options)
        benches.append(one)
        await one.start()
        return one

    yield make
    for one in benches:
        await one.stop()


def batch_of(*contents: str, kind: str = "batch") -> list[bytes]:
    """Return the request of a task for each content, of an object of that name."""
    return [request(content, content=content, kind=kind) for content in contents]


async def test_each_task_has_its_own_events_and_end(start: Callable[..., Any]) -> None:
    """One finishes, one is tried again, one is dead at once: out of one call."""
    one = await start()
    one.worker.ownership.give(0)
    one.put(0, *batch_of("a", "error", "reject", "b"))
    await until(lambda: len(one.events()) == 10)
    assert [["a", "error", "reject", "b"]] == CALLS
    assert [TaskStarted, TaskFinished] == one.types("a") == one.types("b")
    assert [TaskStarted, TaskFailed, TaskRetried] == one.types("error")
    assert [TaskStarted, TaskFailed, TaskDead] == one.types("reject")
    assert 1 == len(one.producer.sent_to(DEAD_LETTERS))
    submitted = [msgspec.json.decode(sent.value or b"")["content"] for sent in one.producer.sent_to(OBJECTS)]
    assert ["a", "b"] == sorted(submitted)  # what failed attempts produced is not there
    (again,) = [task for _, task in one.waiting()]
    assert ("error", 2) == (again.object_id, again.attempt)


async def test_time_before_the_call_is_waiting_and_not_work(start: Callable[..., Any]) -> None:
    """The statistics would say that the function is slow."""
    one = await start(wait_s=0.3)
    one.worker.ownership.give(0)
    one.put(0, *batch_of("a"))
    await until(lambda: one.finished() == {"a"})
    finished = one.events("a")[-1]
    assert isinstance(finished, TaskFinished)
    assert finished.wait_ms >= 250
    assert finished.spent_ms < 250


async def test_fault_of_our_own_at_the_end_of_a_call_ends_the_worker(start: Callable[..., Any]) -> None:
    """The event loop would only log it, and the tasks would be neither finished nor waiting."""
    meeting = Meeting()
    one = await start(meeting, size=2)
    one.worker.ownership.give(0)
    one.put(0, *batch_of("a", "b"))
    await until(lambda: meeting.calls)
    (lane,) = one.lanes
    lane.progress = cast("Any", None)
    meeting.let_go.set()
    await until(lambda: one.worker.fatal.errors)
    assert {AttributeError} == {type(error) for error in one.worker.fatal.errors}


async def test_call_takes_one_place(start: Callable[..., Any]) -> None:
    """Whatever it has tasks; and nothing else starts before a call that is ready."""
    meeting, gate = Meeting(), Gate()
    one = await start(meeting, gate=gate, concurrency=2, wait_s=0)
    one.worker.ownership.give(0)
    one.put(0, *batch_of("a", "b", "c", "d", "e"))
    await until(lambda: len(meeting.calls) == 2)
    one.put(0, *batch_of("x", "y", kind="other"), start=5)
    await settle()
    assert ([["a", "b", "c", "d"], ["e"]], []) == (meeting.calls, gate.started)
    assert one.engine.pool.is_full
    meeting.let_go.set()
    await until(lambda: gate.started == ["x", "y"])
    one.put(0, *batch_of("f", "g"), start=7)
    await until(lambda: len(one.finished()) == 5)
    assert 2 == len(meeting.calls)
    assert {"a", "b", "c", "d", "e"} == one.finished()
    gate.finish("x")
    await until(lambda: len(meeting.calls) == 3)
    assert ["f", "g"] == meeting.calls[2]


async def test_calls_are_full_while_the_pool_is(start: Callable[..., Any]) -> None:
    """A place that is free again is for a full call, not for the first task that comes."""
    meeting = Meeting()
    one = await start(meeting, concurrency=1, wait_s=0.2)
    one.worker.ownership.give(0)
    one.put(0, *batch_of(*(str(number) for number in range(13))))
    await until(lambda: len(meeting.calls) == 1)
    meeting.let_go.set()
    await until(lambda: len(one.finished()) == 13)
    assert [4, 4, 4, 1] == [len(call) for call in meeting.calls]


async def test_each_task_takes_a_token_of_a_rate(start: Callable[..., Any]) -> None:
    """A call has only those that may start."""
    one = await start()
    one.control.apply(b"rate:batch", b'{"type": "RATE", "kind": "batch", "per_s": 0.1}')
    one.engine.control_changed()
    for number in range(4):
        one.worker.ownership.give(number)
    one.put(0, *batch_of("a", "b", "c"))
    await until(lambda: one.finished() == {"a"})
    assert [["a"]] == CALLS


async def test_cancelled_task_leaves_its_call(start: Callable[..., Any]) -> None:
    """The others in it finish."""
    meeting = Meeting()
    one = await start(meeting, wait_s=0)
    one.worker.ownership.give(0)
    one.put(0, *batch_of("a", "b"))
    await until(lambda: len(meeting.calls) == 1)
    one.control.apply(b"cancel:object:a", b'{"type": "CANCEL", "object_id": "a"}')
    one.engine.control_changed()
    await until(lambda: one.types("a") == [TaskStarted, TaskCancelled])
    meeting.let_go.set()
    await until(lambda: one.finished() == {"b"})


async def test_partitions_share_calls_and_one_of_them_may_go(start: Callable[..., Any]) -> None:
    """The tasks of a partition that is lost are its next owner's: nothing is written of them."""
    meeting = Meeting()
    one = await start(meeting, size=3, wait_s=60)
    for number in (0, 1):
        one.worker.ownership.give(number)
    one.put(0, *batch_of("a"))
    one.put(1, *batch_of("b"))
    await until(lambda: one.executor.calls.waiting_count == 2)
    one.worker.ownership.take_away(0)
    await until(lambda: one.executor.calls.waiting_count == 1)
    one.put(1, *batch_of("c", "d"), start=1)
    await until(lambda: meeting.calls == [["b", "c", "d"]])
    meeting.let_go.set()
    await until(lambda: one.finished() == {"b", "c", "d"})
    assert [TaskFinished] not in (one.types("a"), one.types("a")[-1:])


async def test_worker_that_stops_does_not_wait_for_a_call_to_fill(start: Callable[..., Any]) -> None:
    """What has begun shall end before the drain limit."""
    one = await start(wait_s=60)
    one.worker.ownership.give(0)
    one.put(0, *batch_of("a", "b"))
    await until(lambda: one.executor.calls.waiting_count == 2)
    await one.engine.drain(30)
    assert ({"a", "b"}, [["a", "b"]]) == (one.finished(), CALLS)


def begun(count: int) -> str:
    """Return the metadata of an owner that died with the first tasks of a partition, as the one before it."""
    progress = PartitionProgress(0)
    for offset in range(count):
        progress.take(offset)
        progress.start(offset)
    return join_metadata(progress.encode() or "", Life("gone", 1))


async def test_suspects_of_two_deaths_run_one_by_one_and_apart(start: Callable[..., Any]) -> None:
    """Whoever ended the workers ends a process of its own; new tasks run in calls as ever."""
    one = await start()
    one.worker.ownership.give(0, end=4, metadata=begun(3), members=frozenset({"member"}))
    one.put(0, *batch_of("a", "die", "b", "new"))
    await eventually(lambda: one.finished() == {"a", "b", "new"} and one.types("die")[-1:] == [TaskDead])
    assert [["new"]] == CALLS  # in this process
    (letter,) = one.producer.sent_to(DEAD_LETTERS)
    assert b"app.errors.HandlerCrashed" == dict(letter.headers)["kafka_dlt-exception-fqcn"]
    assert one.committed() == (4, "")


async def test_watchdog_hears_of_a_call_that_does_not_start(start: Callable[..., Any]) -> None:
    """If nobody started what is ready, the worker would stand still."""
    one = await start(wait_s=0)
    one.worker.ownership.give(0)
    one.executor.calls.start_ready = lambda: None  # type: ignore[method-assign]
    one.put(0, *batch_of("a"))
    await until(lambda: one.executor.calls.ready_count == 1)
    await until(lambda: one.engine.report.could_go_on() == "calls of batch functions are ready that could start")
