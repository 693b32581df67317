"""How an engine lets go: drained by control, stopped, or out of places."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from engine_bench import Bench, Gate, request
from fakes import settle, until
from loaded_handlers import in_hand, limits
from running_handlers import eventually

from agents.engine.draining import Drainer
from agents.execution.batch_calls import BatchCalls
from agents.execution.loading import Handlers
from app.errors import HandlersStuck
from app.events import TaskDead, TaskFailed, TaskFinished, TaskStarted

if TYPE_CHECKING:
    from agents.execution.loading import LoadedHandler

DRAIN = (b"drain:processing-1", b'{"type":"DRAIN","at_ms":1}')


class Standing:
    """Remembers what a worker asked of its group."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def __call__(self, *, aside: bool) -> None:
        """Note a wish."""
        self.asked.append(aside)


def drained(one: Bench, value: bytes | None = DRAIN[1]) -> None:
    """Drain the worker, or undo it, as the control feed would."""
    one.control.apply(DRAIN[0], value)
    one.engine.control_changed()
    one.drainer.control_changed()


@pytest.fixture
async def standing() -> Standing:
    """Return a group that does nothing."""
    return Standing()


@pytest.fixture
async def one(bench: Any, gate: Gate, standing: Standing) -> Bench:
    """Return an engine with two running tasks and a drainer."""
    one: Bench = await bench(gate, concurrency=2)
    one.drainer = Drainer(one.engine, one.control, standing, worker="processing-1", limit_s=60)
    one.worker.ownership.give(0)
    one.put(0, *(request(name) for name in "abc"))
    await until(lambda: len(gate.running) == 2)
    return one


async def test_drained_worker_finishes_what_runs_and_then_gives_up_its_partitions(one, gate, standing):
    """Not before the last running task is finished and committed; what has not begun is the next owner's."""
    drained(one)
    gate.finish("a")
    await until(lambda: one.finished() == {"a"})
    await settle()
    assert [] == standing.asked
    gate.finish("b")
    await until(lambda: standing.asked)
    assert ([True], {"a", "b"}, ["a", "b"]) == (standing.asked, one.finished(), gate.started)


async def test_drained_worker_gives_up_its_partitions_at_the_limit(one, gate, standing, caplog):
    """A task that takes longer is handed back, as when a worker stops: its partition must not wait for it."""
    one.drainer = Drainer(one.engine, one.control, standing, worker="processing-1", limit_s=0)
    drained(one)
    await until(lambda: standing.asked)
    assert "2 tasks still run after 0 s" in caplog.text
    one.worker.ownership.take_away(0)
    await until(lambda: sorted(gate.cancelled) == ["a", "b"])
    assert [] == [event for event in one.events() if isinstance(event, TaskFinished | TaskFailed)]


async def test_drain_that_is_undone_while_tasks_run_changes_nothing(one, gate, standing):
    """The partitions stay, and what waits starts."""
    drained(one)
    drained(one, None)
    gate.finish("a")
    await until(lambda: "c" in gate.running)
    gate.finish()
    await until(lambda: len(one.finished()) == 3)
    assert True not in standing.asked


async def test_drained_worker_comes_back(one, gate, standing):
    """Undone, it asks for a share; said twice, a drain is one."""
    drained(one)
    drained(one)
    gate.finish()
    await until(lambda: standing.asked == [True])
    drained(one, None)
    assert [True, False] == standing.asked


async def test_engine_that_closes_cancels_what_runs_and_fails_nothing(one, gate):
    """The tasks are their next owner's: they must not come there as failed ones, because this worker stopped."""
    await until(lambda: one.types() == [TaskStarted, TaskStarted])
    await one.engine.close()
    assert (["a", "b"], [], 0) == (sorted(gate.cancelled), list(gate.running), len(list(one.engine.running)))
    await settle()
    assert [TaskStarted, TaskStarted] == one.types()
    assert ["a", "b"] == gate.started


class Hanging:
    """A handler for threads that does not look at `context.cancelled`, until the test lets it go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def __call__(self, task: Any, _context: Any) -> None:
        """Hang, if the object's id says so."""
        if task.object_id.startswith("hang"):
            self.let_go.wait()


async def hanging_bench(hanging: Hanging, *, time_limit_s: float) -> Bench:
    """Return an engine of two places that runs the handler in threads."""
    handlers = Handlers(in_hand(hanging, "tests:hanging", within=limits(time_limit_s=time_limit_s)), {})
    one = Bench(hanging, concurrency=2, handlers=handlers)
    await one.start()
    one.worker.ownership.give(0)
    return one


class ShortOfPlaces:
    """An executor that left a handler behind."""

    abandoned_running_count = 1
    on_freed: Any = None

    def __init__(self) -> None:
        self.calls = BatchCalls(self.run)

    async def run(self, loaded: LoadedHandler, task: Any, context: Any = None) -> object:
        """Run a coroutine."""
        return await loaded.function(task, context)


async def test_pool_is_smaller_by_what_was_left_behind(bench, gate):
    """Three places, one of them kept: two tasks at once."""
    one = await bench(gate, concurrency=3)
    one.engine.open(ShortOfPlaces())
    one.worker.ownership.give(0)
    one.put(0, *(request(name) for name in "abcd"))
    while len(one.finished()) < 4:
        await until(lambda: gate.running)
        await settle()
        gate.finish(next(iter(gate.running)))
        await settle()
    assert 2 == gate.most_running


async def test_place_of_a_handler_left_behind_is_filled_as_soon_as_it_ends(bench, gate):
    """Although nothing else happens then: no task ends, no record comes, nothing is committed."""
    one = await bench(gate, concurrency=2)
    short = ShortOfPlaces()
    one.engine.open(short)
    one.worker.ownership.give(0)
    one.put(0, request("a"), request("b"))
    await until(lambda: one.types("a") == [TaskStarted])
    await settle()
    assert ["a"] == gate.started
    short.abandoned_running_count = 0
    short.on_freed()
    await until(lambda: gate.started == ["a", "b"])


async def test_handler_left_behind_keeps_its_place():
    """The pool shrinks by one for as long as the thread runs; the figures say so, and others are still worked."""
    hanging = Hanging()
    one = await hanging_bench(hanging, time_limit_s=1.5)  # which the others keep on a busy machine, too
    one.put(0, request("hang"), *(request(name) for name in "abcd"))
    await eventually(lambda: one.types("hang")[-1:] == [TaskDead])
    assert 1 == one.engine.abandoned_count
    await eventually(lambda: len(one.finished()) == 4)
    hanging.let_go.set()
    await eventually(lambda: one.engine.abandoned_count == 0)
    await one.stop()
    assert [] == one.worker.fatal.errors


async def test_worker_whose_places_are_all_taken_ends():
    """With nothing left to work with it ends, so that a new process starts; the failed attempts are committed first."""
    hanging = Hanging()
    one = await hanging_bench(hanging, time_limit_s=0.05)
    one.put(0, request("hang-1"), request("hang-2"), request("a"))
    await eventually(lambda: bool(one.worker.fatal.errors))
    (error,) = one.worker.fatal.errors
    assert isinstance(error, HandlersStuck)
    assert "all 2 slots are occupied" in str(error)
    assert [TaskDead, TaskDead] == [one.types(name)[-1] for name in ("hang-1", "hang-2")]
    assert [] == one.types("a")
    assert (2, "") == one.committed()
    hanging.let_go.set()
    await one.stop()
