"""What an engine does with the partitions of workers that died: with care, then apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from engine_bench import request
from fakes import settle, until
from loaded_handlers import by_name, in_hand
from plain_names import DEAD_LETTERS, TASK_REQUESTS

from agents.engine.processing_figures import describe_running
from agents.execution.loading import Handlers
from app.events import TaskDead, TaskFailed, TaskFinished, TaskRetried, TaskStarted
from app.rules.offsets import PartitionProgress
from app.rules.owner_lives import Life, join_metadata, split_metadata
from ebs import inline

LIVING = frozenset({"member", "another"})


def begun(count: int, life: Life) -> str:
    """Return the metadata of an owner that had begun the first tasks of a partition."""
    progress = PartitionProgress(0)
    for offset in range(count):
        progress.take(offset)
        progress.start(offset)
    return join_metadata(progress.encode() or "", life)


def life_of(one: Any, partition: int = 0) -> Life:
    """Return what is committed of a partition's owner."""
    return split_metadata(one.producer.offsets[TopicPartition(TASK_REQUESTS, partition)].metadata)[1]


async def test_first_tasks_of_a_partition_wait_for_the_commit_that_names_its_owner(bench, gate):
    """The later ones begin at once: nothing of this is on the hot path."""
    one = await bench(gate)
    one.producer.gate.clear()
    one.worker.ownership.give(0, members=LIVING)
    one.put(0, request("a"))
    await until(lambda: "commit" in one.producer.calls)
    await settle()
    assert [] == gate.started
    one.producer.gate.set()
    await until(lambda: gate.started == ["a"])
    assert Life("member", 0) == life_of(one)
    one.producer.gate.clear()
    one.put(0, request("b"), start=1)
    await until(lambda: gate.started == ["a", "b"])


async def test_after_a_death_each_task_begins_only_when_that_is_committed(bench, gate):
    """So that the next owner knows what ran if this one dies, too; when all is done the death is forgotten."""
    one = await bench(gate)
    one.worker.ownership.give(0, end=2, metadata=join_metadata("", Life("gone", 0)), members=LIVING)
    one.put(0, request("a"))
    await until(lambda: gate.started == ["a"])
    assert Life("member", 1) == life_of(one)
    one.producer.gate.clear()
    commit_count = one.producer.calls.count("commit")
    one.put(0, request("b"), start=1)
    await until(lambda: one.producer.calls.count("commit") > commit_count)
    await settle()
    assert ["a"] == gate.started
    one.producer.gate.set()
    await until(lambda: gate.started == ["a", "b"])
    gate.finish()
    await until(lambda: one.finished() == {"a", "b"} and life_of(one) == Life("member", 0))
    one.producer.gate.clear()
    one.put(0, request("c"), start=2)
    await until(lambda: gate.started == ["a", "b", "c"])


async def test_death_is_remembered_until_all_that_lay_there_is_done(bench, gate):
    """A batch of markers only, or the first of two tasks, says nothing of the tasks that the dead worker had begun."""
    one = await bench(gate)
    one.worker.ownership.give(0, end=3, metadata=join_metadata("", Life("gone", 1)), members=LIVING)
    one.put(0, end=1)
    await until(lambda: bool(one.producer.offsets) and one.committed() == (1, ""))
    assert Life("member", 2) == life_of(one)
    one.put(0, request("a"), start=1)
    await until(lambda: gate.started == ["a"])
    gate.finish()
    await until(lambda: one.committed() == (2, ""))
    assert Life("member", 2) == life_of(one)
    one.put(0, request("b"), start=2)
    await until(lambda: gate.started == ["a", "b"])
    gate.finish()
    await until(lambda: one.committed() == (3, "") and life_of(one) == Life("member", 0))


async def test_worker_that_stops_as_it_should_is_no_death(bench, gate):
    """Whatever it hands back."""
    one = await bench(gate)
    one.worker.ownership.give(0, members=LIVING)
    one.put(0, request("a"))
    await until(lambda: gate.started == ["a"])
    await one.engine.drain(0)
    assert Life("", 0) == life_of(one)


@pytest.mark.parametrize("name", ["end_in_the_loop", "end_in_a_thread", "end_at_once"])
async def test_task_that_ended_two_workers_runs_apart_and_dies_alone(bench, name):
    """At its first attempt, with the cause; the one that had begun beside it finishes, in another process."""
    one = await bench(None, handlers=Handlers(by_name(name), {}), max_attempts=5)
    one.worker.ownership.give(0, metadata=begun(2, Life("gone", 1)), members=LIVING)
    one.put(0, request("a", content="die"), request("b", content="long"))
    await until(lambda: one.finished() == {"b"} and one.types("a")[-1:] == [TaskDead], within_s=60)
    # An earlier life said that they had started.
    assert ([TaskFailed, TaskDead], [TaskFinished]) == (one.types("a"), one.types("b"))
    (letter,) = one.producer.sent_to(DEAD_LETTERS)
    headers = dict(letter.headers)
    assert b"app.errors.HandlerCrashed" == headers["kafka_dlt-exception-fqcn"]
    assert (
        b"task a-0 ran beside others; run alone, the process of handler sample_handlers:"
        in headers["kafka_dlt-exception-message"]
    )
    assert b"ended with exit code 3 " in headers["kafka_dlt-exception-message"]
    await until(lambda: one.committed() == (2, "") and life_of(one) == Life("member", 0))


async def test_backoff_of_what_runs_apart_is_not_asked(bench):
    """It is a function of the project's too, and would end this worker: the tiers say when the next attempt is due."""
    asked = []
    failing = by_name("end_in_the_loop", max_attempts=2)
    retry = failing.limits.retry._replace(backoff=asked.append)
    failing = replace(failing, limits=failing.limits._replace(retry=retry))
    one = await bench(None, handlers=Handlers(failing, {}))
    one.worker.ownership.give(0, metadata=begun(1, Life("gone", 1)), members=LIVING)
    one.put(0, request("a", content="value error"))
    await until(lambda: one.types("a")[-1:] == [TaskRetried], within_s=60)
    assert [] == asked


async def test_what_runs_apart_takes_no_place_in_the_pool(bench):
    """The others go on meanwhile; they had not begun when the worker died, so they are no suspects."""
    one = await bench(None, handlers=Handlers(by_name("end_in_the_loop"), {}), concurrency=1)
    one.worker.ownership.give(0, metadata=begun(2, Life("gone", 1)), members=LIVING)
    one.put(0, request("a", content="wait"), request("b", content="wait"), request("c", content="long"))
    await until(lambda: one.finished() == {"c"}, within_s=60)
    assert [TaskStarted, TaskFinished] == one.types("c")
    assert ["a-0", "b-0"] == sorted(attempt.task.task_id for attempt in one.engine.running)


async def test_last_line_of_a_worker_names_its_running_tasks(bench, gate):
    """What runs longest first, not all of it; a handler that holds up the event loop is among them."""
    said: list[str] = []

    @inline
    def at_once(_task: Any, _context: Any) -> None:
        said.append(describe_running(one.engine))

    slow = in_hand(lambda task, _: gate(task), "shop:gate", mode="coroutine")
    one = await bench(None, handlers=Handlers(slow, {"quick": in_hand(at_once)}))
    assert "" == describe_running(one.engine)
    one.worker.ownership.give(0, members=LIVING)
    one.put(0, *(request(name) for name in "abcdef"))
    await until(lambda: len(gate.running) == 6)
    assert describe_running(one.engine).startswith(
        "6 in hand: task a-0 of object a, kind default, attempt 1; task b-0 "
    )
    assert describe_running(one.engine).endswith("task e-0 of object e, kind default, attempt 1 ...")
    gate.finish()
    await until(lambda: len(one.finished()) == 6)
    one.put(0, request("g", kind="quick"), start=6)
    await until(lambda: said == ["1 in hand: task g-0 of object g, kind quick, attempt 1"])
    await until(lambda: describe_running(one.engine) == "")
