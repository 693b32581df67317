"""Batches of 64 and single calls of a function with a fixed cost of 5 ms a call: `make bench-batch`.

One processing worker works off preloaded requests, with and without batches in turn. The figure is finished tasks per
second, by the times in the events: the median of the runs. At the end the checker reads all topics.

- connection: a coroutine that has one connection (or model, or GPU), so one call runs at a time;
- process: `@cpu_bound`, as many calls at once as there are CPUs;
- thread, coroutine: 64 calls at once. They hide the wait, so the figure shows what a call costs the worker.

Run it on a machine that does nothing else. `BENCH="--only process --runs 1"` runs a part of it.
"""

from __future__ import annotations

import argparse
import statistics

import uvloop
from batched_project import BATCHED, SORTS
from pipeline import Line, check, run_parts
from preloaded_runs import preloaded_runs, told

OBJECTS_OF = {"connection": 500, "process": 700, "thread": 6_000, "coroutine": 6_000}
MORE_IN_BATCHES = {"connection": 8, "process": 8, "thread": 1, "coroutine": 1}
"""Factor for the objects of a run with batches, as a run must take seconds."""


async def compare(sort: str, runs: int) -> list[Line]:
    """Measure one sort of function with and without batches."""
    async with preloaded_runs(BATCHED) as system:
        await system.measure(sort, 200)  # the first run of a JVM is slow
        single, batched = [], []
        for _ in range(runs):
            single.append(await system.measure(sort, OBJECTS_OF[sort]))
            batched.append(await system.measure(f"{sort}-batch", OBJECTS_OF[sort] * MORE_IN_BATCHES[sort]))
        verdict = await check(system.broker)
    ratio = statistics.median(batched) / statistics.median(single)
    figure = f"{sort}: tasks/s of batches of 64 as a multiple of single calls, 5 ms a call ({verdict})"
    return [Line(figure, told(f"{ratio:.1f}", batched, single), "3" if sort in ("connection", "process") else "")]


async def main(options: argparse.Namespace) -> None:
    """Run what was asked for."""
    await run_parts({sort: [lambda sort=sort: compare(sort, options.runs)] for sort in SORTS}, options.only)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of each variant (default: 3)")
    parser.add_argument("--only", choices=SORTS, help="one sort of function only")
    uvloop.run(main(parser.parse_args()))
