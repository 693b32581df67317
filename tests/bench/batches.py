"""Batches of 64 and single calls of a function with a fixed cost of 5 ms a call: `make bench-batch`.

One processing worker works off preloaded requests, with and without batches in turn. The figure is finished tasks per
second, by the times in the events: the median of the runs. It ends with the checker over all topics.

- connection: a coroutine that has one connection (or model, or GPU), so one call at a time;
- process: `@cpu_bound`, as many at once as there are CPUs;
- thread, coroutine: 64 calls at once, which hide the wait: what is left is what a call costs the worker.

Run it on a machine that does nothing else; `BENCH="--only process --runs 1"` is a part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from contextlib import suppress
from typing import TYPE_CHECKING

import uvloop
from batched_project import BATCHED, SORTS
from engine import Watch
from feed import feed
from fleet import Fleet, said, until
from follower import lag_of
from pipeline import PARTITIONS, Line, check, run_parts, running_system
from plain_names import OBJECTS, STATISTICS_APP, TASK_EVENTS

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

TASKS = 3
"""Of each object."""
OBJECTS_OF = {"connection": 500, "process": 700, "thread": 6_000, "coroutine": 6_000}
MORE_IN_BATCHES = {"connection": 8, "process": 8, "thread": 1, "coroutine": 1}
"""So many times as many objects: a run must take seconds."""
PATIENCE_S = 300.0


class Bench:
    """One system that works off run after run."""

    def __init__(self, broker: EmbeddedKafka, fleet: Fleet) -> None:
        self._broker = broker
        self._fleet = fleet
        self._watch = Watch()
        self._task_count = 0

    async def start(self) -> asyncio.Task[None]:
        """Start what prepares and counts the tasks."""
        roles = ("distribution", "statistics")
        for role in roles:
            self._fleet.start(role)
        await until(lambda: said(self._fleet.workers.values(), "Ready"), "workers", fleet=self._fleet)
        return asyncio.create_task(self._watch.follow(self._broker))

    async def run(self, kind: str, objects: int) -> float:
        """Return the tasks per second of a kind, all requests lying ready before the worker starts."""
        ids = await feed(self._broker.bootstrap, objects, partitions=PARTITIONS, kind=kind)
        self._task_count += objects * TASKS
        await self._come(lambda: len(self._watch.created_at_ms) == self._task_count, "the requests")
        await until(self._has_no_lag, "the statistics", timeout_s=PATIENCE_S, fleet=self._fleet)
        self._fleet.start("processing")
        await self._come(lambda: self._watch.ended_count == self._task_count, "all tasks")
        await self._fleet.terminate("processing-1")
        measured = [f"{one}-{sequence}" for one in ids for sequence in range(TASKS)]
        began_at_ms = min(self._watch.started_at_ms[one] for one in measured)
        ended_at_ms = max(self._watch.finished_at_ms[one] for one in measured)
        return len(measured) / (ended_at_ms - began_at_ms) * 1_000

    async def _has_no_lag(self) -> bool:
        return await lag_of(self._broker.bootstrap, STATISTICS_APP, [OBJECTS, TASK_EVENTS], PARTITIONS) == 0

    async def _come(self, condition: object, what: str) -> None:
        await until(condition, what, timeout_s=PATIENCE_S, fleet=self._fleet)  # type: ignore[arg-type]


async def compare(sort: str, runs: int) -> list[Line]:
    """Measure one sort of function with and without batches."""
    async with running_system(BATCHED) as (broker, fleet):
        bench = Bench(broker, fleet)
        following = await bench.start()
        try:
            await bench.run(sort, 200)  # the first run of a JVM is slow
            single, batched = [], []
            for _ in range(runs):
                single.append(await bench.run(sort, OBJECTS_OF[sort]))
                batched.append(await bench.run(f"{sort}-batch", OBJECTS_OF[sort] * MORE_IN_BATCHES[sort]))
            verdict = await check(broker)
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
    ratio = statistics.median(batched) / statistics.median(single)
    figure = f"{sort}: tasks/s of batches of 64 as a multiple of single calls, 5 ms a call ({verdict})"
    told = f"{ratio:.1f} ({_figures(batched)} and {_figures(single)})"
    return [Line(figure, told, "3" if sort in ("connection", "process") else "")]


def _figures(runs: list[float]) -> str:
    return "/".join(f"{one:,.0f}" for one in runs)


async def main(options: argparse.Namespace) -> None:
    """Run what was asked for."""
    await run_parts({sort: [lambda sort=sort: compare(sort, options.runs)] for sort in SORTS}, options.only)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of each variant (default: 3)")
    parser.add_argument("--only", choices=SORTS, help="one sort of function only")
    uvloop.run(main(parser.parse_args()))
