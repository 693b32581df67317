"""Batches on a real broker, through kills, poison and a task that ends its workers: each task has one end, its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api_process import PATIENCE_S
from batched_project import BATCHED
from broker_site import PARTITIONS
from checker import differences, read_topics
from feed import feed
from fleet import PATIENT, TAKEN_OVER, Fleet, said, until
from follower import Follower

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

OBJECTS = 400
TASKS = 3
EVERY = 50
"""One object in so many is poison."""
GOOD = 20


def name_of(number: int) -> str:
    """Return what the tasks of an object do."""
    return "poison" if number % EVERY == EVERY // 2 else "good"


async def test_each_task_of_a_batch_has_one_end_through_kills(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Two workers are killed amid their calls, some tasks are poison; then one comes that ends each worker with it."""
    fleet.start("distribution", **PATIENT)
    fleet.start("statistics", **PATIENT)
    for number in (1, 2):
        fleet.start("processing", f"processing-{number}", FAULT_HANDLER_RUNS="runs", **TAKEN_OVER, **BATCHED)
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:

        async def ended(count: int) -> None:
            await until(
                lambda: follower.has_ended_tasks(count),
                f"{count} ends",
                fleet=fleet,
                reviving=True,
                timeout_s=2 * PATIENCE_S,
            )

        first = await feed(broker.bootstrap, OBJECTS, partitions=PARTITIONS, kind="named", name=name_of, rate_per_s=200)
        for part, worker in enumerate(("processing-1", "processing-2", "processing-1"), start=1):
            await ended(OBJECTS * TASKS * part // 5)
            fleet.kill(worker)
        await ended(OBJECTS * TASKS)
        good = await feed(broker.bootstrap, GOOD, partitions=PARTITIONS, kind="named", name="good")
        (deadly,) = await feed(broker.bootstrap, 1, partitions=PARTITIONS, kind="named", name="exit")
        good += await feed(broker.bootstrap, GOOD, partitions=PARTITIONS, kind="named", name="good")
        await ended((OBJECTS + 2 * GOOD + 1) * TASKS)
    assert [] == await differences(broker.bootstrap, accepted=[*first, *good, deadly])
    poison = {one for number, one in enumerate(first) if name_of(number) == "poison"}
    events = (await read_topics(broker.bootstrap)).events
    for object_id in (*first, *good, deadly):
        of_tasks = [events_of(events[object_id], f"{object_id}-{sequence}") for sequence in range(TASKS)]
        for own in of_tasks:
            if object_id in poison:
                assert ["TASK_DEAD"] == [one["type"] for one in own if one["type"] in {"TASK_FINISHED", "TASK_DEAD"}]
                assert {"ValueError: one of them is poison"} == {one["error"] for one in own if "error" in one}
                assert 2 == max(one["attempt"] for one in own)
            elif object_id == deadly:
                assert ["TASK_DEAD"] == [one["type"] for one in own if one["type"] in {"TASK_FINISHED", "TASK_DEAD"}]
                assert "ended with exit code 7" in next(one["error"] for one in own if "error" in one)
            else:
                (end,) = [one for one in own if one["type"] not in {"TASK_CREATED", "TASK_STARTED"}]
                assert ("TASK_FINISHED", 1, end["task_id"]) == (end["type"], end["attempt"], end["result"])


def events_of(events: list[dict[str, Any]], task_id: str) -> list[dict[str, Any]]:
    """Return the events of one task."""
    return [one for one in events if one.get("task_id") == task_id]
