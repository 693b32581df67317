"""The benchmark of the processing engine: `make bench-engine`.

- concurrency: one partition, a handler that sleeps 100 ms, 200 at once: finished tasks per second;
- poison: full load with 1 % of the tasks failing for ever, beside the same load without, in turn: tasks per second and
  the 99th percentile of the healthy ones' time from creation to end.

Every run ends with the checker over all topics. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

import msgspec
import pipeline
import uvloop
from feed import feed
from fleet import Fleet, said, until
from pipeline import check, console, reading, running_system

from app.topics import TASK_EVENTS

ROUNDS = 3
OBJECTS = 20_000
POISONED = 200


class Outcome(NamedTuple):
    """What the healthy tasks of a run did."""

    per_s: float
    p99_ms: float


class Event(msgspec.Struct):
    """The part of an event that is measured."""

    type: str
    object_id: str
    task_id: str
    at_ms: int


decode = msgspec.json.Decoder(Event).decode


async def concurrency() -> None:
    """Print tasks per second of a sleeping handler on one partition."""
    pipeline.PARTITIONS = 1
    async with running_system({"EBS_PROCESS_TIME": "0.1", "EBS_CONCURRENCY": "200"}) as (broker, fleet):
        await feed(broker.bootstrap, 6_000, partitions=1)
        fleet.start_all()
        async with reading(broker, TASK_EVENTS) as events:
            finished_at_s: list[float] = []
            while len(finished_at_s) < 18_000:
                for records in (await events.getmany(timeout_ms=100)).values():
                    now_s = time.perf_counter()
                    finished_at_s += [now_s for record in records if decode(record.value).type == "TASK_FINISHED"]
        per_s = len(finished_at_s) / (finished_at_s[-1] - finished_at_s[0])
        console.print(f"1 partition, 100 ms a task, 200 at once: {per_s:,.0f} tasks/s ({await check(broker)})")
    pipeline.PARTITIONS = 8


async def load(poisoned: int) -> Outcome:
    """Work off objects at full load, some of them poisoned, and measure the others."""
    env = {"EBS_HANDLER": "fault_handlers:planned", "EBS_LOG_LEVEL": "error"}
    async with running_system(env) as (broker, fleet):
        await feed(broker.bootstrap, OBJECTS // 2, partitions=8)
        bad = set(await feed(broker.bootstrap, poisoned, partitions=8, name="poison")) if poisoned else set()
        await feed(broker.bootstrap, OBJECTS // 2 - poisoned, partitions=8)
        return await measure(fleet, broker, bad, 3 * (OBJECTS - poisoned))


async def measure(fleet: Fleet, broker: pipeline.EmbeddedKafka, bad: set[str], task_count: int) -> Outcome:
    """Follow the events until all healthy tasks are finished."""
    fleet.start_all()
    await until(lambda: said(fleet.workers.values(), "Ready"), "all workers", fleet=fleet)
    created_at_ms: dict[str, int] = {}
    spent_ms: list[int] = []
    began_at_s = 0.0
    async with reading(broker, TASK_EVENTS) as events:
        while len(spent_ms) < task_count:
            for records in (await events.getmany(timeout_ms=100)).values():
                began_at_s = began_at_s or time.perf_counter()
                for record in records:
                    event = decode(record.value)
                    if event.type == "TASK_CREATED":
                        created_at_ms[event.task_id] = event.at_ms
                    elif event.type == "TASK_FINISHED" and event.object_id not in bad:
                        spent_ms.append(event.at_ms - created_at_ms[event.task_id])
    took_s = time.perf_counter() - began_at_s
    return Outcome(task_count / took_s, sorted(spent_ms)[int(task_count * 0.99)])


async def poison() -> None:
    """Print the ratios of runs with and without poison, in turn."""
    pairs = [(await load(POISONED), await load(0)) for _ in range(ROUNDS)]
    per_s = statistics.median(with_poison.per_s / without.per_s for with_poison, without in pairs)
    p99 = statistics.median(with_poison.p99_ms / without.p99_ms for with_poison, without in pairs)
    console.print(f"1 % poison against none: {per_s:.2f} of the tasks/s, {p99:.2f} of the p99 ({pairs})")


async def main() -> None:
    """Run both parts."""
    await concurrency()
    await poison()


if __name__ == "__main__":
    uvloop.run(main())
