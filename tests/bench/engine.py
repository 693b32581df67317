"""The benchmark of the processing engine: `make bench-engine`, or `make bench-engine BENCH="--only poison"`.

- concurrency: one partition, a handler that sleeps 100 ms, 200 at once: finished tasks per second;
- poison: the same load with 1 % of the objects failing in every attempt (B) and without (A), in turn, A B B A, by the
  same system: throughput of preloaded requests, and the 99th percentile of the median second at a steady rate below it.

What makes A and B comparable: both are fed by the same call, object for object, and only the names of every hundredth
object differ; only the other ninety-nine are measured. Preloaded means that all requests lie on their topic, and the
statistics have no lag, before the processing worker starts, so that a run does not measure how it overlapped with
distribution; times are those in the events, not those of whoever reads them. The steady rate is well below what the
whole system manages, or its percentile would only be the length of a growing queue. Each run begins when the one
before has ended, its last retry included.

Takes 14 minutes (`--only poison-throughput` and `--only poison-latency` are halves of `poison`) and ends with the
checker over all topics. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pipeline
import uvloop
from fault_handlers import PLANNED
from feed import feed
from fleet import Fleet, said, until
from follower import lag_of
from pipeline import check, console, reading, running_system
from plain_names import OBJECTS, STATISTICS_APP, TASK_EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from ebs.local.embedded_kafka import EmbeddedKafka

TASKS = 3
"""Of each object."""
PRELOADED = 24_000
STEADY_S = 8
WARM_UP_S = 2
"""Of a steady run, not measured."""
STEADY_PER_S = 4_000
"""Objects: about half of what all roles together manage on two cores."""
WARM_UP_RUNS = 4
"""With poison, not measured: what only failures use of the broker would be compiled in the middle of things."""
EVERY = 100
POISONED_PLACE = 50
PRELOADED_ORDER = "ABBA" * 4
STEADY_ORDER = "ABBA" * 5


class Event(msgspec.Struct):
    """The part of an event that is measured."""

    type: str
    task_id: str
    at_ms: int


class Watch:
    """Follows `task-events`: when each task was created, started first, and finished; which ones have ended."""

    def __init__(self) -> None:
        self.created_at_ms: dict[str, int] = {}
        self.started_at_ms: dict[str, int] = {}
        self.finished_at_ms: dict[str, int] = {}
        self.ended_count = 0

    async def follow(self, broker: EmbeddedKafka) -> None:
        """Read until cancelled."""
        decode = msgspec.json.Decoder(Event).decode
        async with reading(broker, TASK_EVENTS) as events:
            while True:
                for records in (await events.getmany(timeout_ms=100)).values():
                    for record in records:
                        self._note(decode(record.value))

    def _note(self, event: Event) -> None:
        if event.type == "TASK_CREATED":
            self.created_at_ms[event.task_id] = event.at_ms
        elif event.type == "TASK_STARTED":
            self.started_at_ms.setdefault(event.task_id, event.at_ms)
        elif event.type in {"TASK_FINISHED", "TASK_DEAD"}:
            self.ended_count += 1
            if event.type == "TASK_FINISHED":
                self.finished_at_ms[event.task_id] = event.at_ms


class Pair(NamedTuple):
    """The figures of both variants, one for each run."""

    healthy: list[float]
    poisoned: list[float]

    def ratio(self) -> float:
        """Return the poisoned variant's median as a share of the other's."""
        return statistics.median(self.poisoned) / statistics.median(self.healthy)

    def __str__(self) -> str:
        return " ".join(
            f"{name} {'/'.join(f'{figure:,.0f}' for figure in figures)}"
            for name, figures in (("without", self.healthy), ("with", self.poisoned))
        )


class Bench:
    """One system that works off run after run."""

    def __init__(self, broker: EmbeddedKafka, fleet: Fleet) -> None:
        self._broker = broker
        self._fleet = fleet
        self._watch = Watch()
        self._object_count = 0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follow the events meanwhile."""
        following = asyncio.create_task(self._watch.follow(self._broker))
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following

    async def start(self, *roles: str) -> None:
        """Start workers and wait until they work."""
        for role in roles:
            self._fleet.start(role)
        await until(
            lambda: said((self._fleet.workers[f"{role}-1"] for role in roles), "Ready"), "workers", fleet=self._fleet
        )

    async def preloaded(self, *, poisoned: bool) -> float:
        """Return the tasks per second of the healthy objects, all requests lying ready before the worker starts."""
        if "processing-1" in self._fleet.workers:
            await self._fleet.terminate("processing-1")
        measured = await self._feed(PRELOADED, poisoned=poisoned)
        await self._come(lambda: len(self._watch.created_at_ms) == self._object_count * TASKS, "the requests")
        await self._wait_for_statistics()
        self._fleet.start("processing")
        await self._wait_for_the_end()
        began_at_ms = min(self._watch.started_at_ms[task_id] for task_id in measured)
        ended_at_ms = max(self._watch.finished_at_ms[task_id] for task_id in measured)
        return len(measured) / (ended_at_ms - began_at_ms) * 1_000

    async def steady(self, *, poisoned: bool) -> float:
        """Return the 99th percentile, in ms, of the healthy objects' tasks from creation to end, of the median second.

        Of a whole run it would be a roll of the dice: one pause of 0.1 s of whatever process decides it.
        """
        count = STEADY_PER_S * STEADY_S
        measured = await self._feed(count, poisoned=poisoned, objects_per_s=STEADY_PER_S)
        await self._wait_for_the_end()
        await self._wait_for_statistics()
        measured = measured[round(len(measured) * WARM_UP_S / STEADY_S) :]
        seconds: defaultdict[int, list[int]] = defaultdict(list)
        for task_id in measured:
            created_at_ms = self._watch.created_at_ms[task_id]
            seconds[created_at_ms // 1_000].append(self._watch.finished_at_ms[task_id] - created_at_ms)
        return statistics.median(sorted(times)[round(len(times) * 0.99) - 1] for times in seconds.values())

    async def _feed(self, count: int, *, poisoned: bool, objects_per_s: float = 0) -> Sequence[str]:
        """Write objects; returns the tasks to measure, in order."""

        def name(number: int) -> str:
            return "poison" if poisoned and number % EVERY == POISONED_PLACE else "a name"

        ids = await feed(
            self._broker.bootstrap, count, partitions=pipeline.PARTITIONS, rate_per_s=objects_per_s, name=name
        )
        self._object_count += count
        healthy = [object_id for number, object_id in enumerate(ids) if number % EVERY != POISONED_PLACE]
        return [f"{object_id}-{sequence}" for object_id in healthy for sequence in range(TASKS)]

    async def _wait_for_the_end(self) -> None:
        await self._come(lambda: self._watch.ended_count == self._object_count * TASKS, "all tasks")

    async def _wait_for_statistics(self) -> None:
        async def has_no_lag() -> bool:
            topics = [OBJECTS, TASK_EVENTS]
            return await lag_of(self._broker.bootstrap, STATISTICS_APP, topics, pipeline.PARTITIONS) == 0

        await until(has_no_lag, "the statistics", fleet=self._fleet)

    async def _come(self, condition: Callable[[], bool], what: str) -> None:
        await until(condition, what, timeout_s=120, fleet=self._fleet)


async def concurrency() -> None:
    """Print tasks per second of a sleeping handler on one partition."""
    pipeline.PARTITIONS = 1
    async with running_system({"EBS_PROCESS_TIME": "0.1", "EBS_CONCURRENCY": "200"}) as (broker, fleet):
        await feed(broker.bootstrap, 6_000, partitions=1)
        fleet.start_all()
        decode = msgspec.json.Decoder(Event).decode
        async with reading(broker, TASK_EVENTS) as events:
            finished_at_s: list[float] = []
            while len(finished_at_s) < 6_000 * TASKS:
                for records in (await events.getmany(timeout_ms=100)).values():
                    now_s = time.perf_counter()
                    finished_at_s += [now_s for record in records if decode(record.value).type == "TASK_FINISHED"]
        per_s = len(finished_at_s) / (finished_at_s[-1] - finished_at_s[0])
        console.print(f"1 partition, 100 ms a task, 200 at once: {per_s:,.0f} tasks/s ({await check(broker)})")
    pipeline.PARTITIONS = 8


async def poison(only: str) -> None:
    """Print what 1 % of poison does to the others' throughput and latency, or to one of them."""
    began_at_s = time.perf_counter()
    async with running_system(PLANNED) as (broker, fleet):
        bench = Bench(broker, fleet)
        async with bench.watching():
            await bench.start("distribution", "statistics")
            for _ in range(WARM_UP_RUNS):
                await bench.preloaded(poisoned=True)
            if only != "poison-latency":
                pair = await compare(bench.preloaded, PRELOADED_ORDER)
                console.print(f"1 % poison, preloaded: {pair.ratio():.3f} of the tasks/s ({pair})")
            if only != "poison-throughput":
                pair = await compare(bench.steady, STEADY_ORDER)
                per_s = STEADY_PER_S * TASKS
                console.print(f"1 % poison, {per_s:,} tasks/s: {pair.ratio():.3f} of the p99 in ms ({pair})")
        verdict = await check(broker)
    console.print(f"counts {verdict}, {time.perf_counter() - began_at_s:.0f} s")


async def compare(run: Callable[..., Awaitable[float]], order: str) -> Pair:
    """Return the figures of runs without (A) and with poison (B)."""
    pair = Pair([], [])
    for variant in order:
        pair[variant == "B"].append(await run(poisoned=variant == "B"))
    return pair


async def main(only: str) -> None:
    """Run the parts."""
    if only in {"", "concurrency"}:
        await concurrency()
    if only != "concurrency":
        await poison(only)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only",
        choices=["concurrency", "poison", "poison-throughput", "poison-latency"],
        default="",
        help="one part alone",
    )
    uvloop.run(main(parser.parse_args().only))
