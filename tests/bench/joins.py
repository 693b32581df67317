"""Map and reduce under kills: `make bench-join`, or `make bench-join BENCH="--objects 1000 --no-kills"`.

Each object is split into tasks, which are joined again, by functions that only count letters:

- throughput: tasks per second, splits and joins included, while `kill -9` hits a worker of each role: statistics and
  processing once they are in the middle of the first half of the objects, distribution while the second half comes in;
- latency: at a rate, from the end of an object's last task to the start of its join.

Each part checks that every join ran exactly once with all results in order, and that a recount of all topics is exact.
Times are those in the events. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

import uvloop
from feed import feed
from fleet import ROLES, TAKEN_OVER, Fleet, said, until
from joined_objects import Joined, text_of
from joined_project import JOINED, KIND
from pipeline import PARTITIONS, FinishedTasks, Line, check, console, reading, run_parts, running_system
from plain_names import WINDOWS_CHANGELOG

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

WARM_UP_S = 45
"""Until Java has compiled what the broker does all the time: before, the broker takes most of a core."""
LATENCY_S = 20
SECOND_HALF_S = 4
"""How long the second half takes to come in: so distribution dies with objects on their way."""
FUNCTIONS = {**JOINED, **TAKEN_OVER, "JOINED_WORK_S": "0"}
PATIENCE_S = 900.0


async def verdict_of(broker: EmbeddedKafka) -> tuple[str, Joined]:
    """Return `exact` and what the events say, or end the benchmark: a wrong figure is worth nothing."""
    joined = Joined()
    await joined.read(broker.bootstrap)
    if found := joined.differences():
        raise SystemExit("the joins are wrong:\n" + "\n".join(found[:20]))
    return await check(broker), joined


async def write(broker: EmbeddedKafka, numbers: range, options: argparse.Namespace, **how: Any) -> list[str]:
    """Write objects of these numbers, each with words of its own, one for each task; `how` is as for `feed`."""
    return await feed(
        broker.bootstrap,
        len(numbers),
        partitions=PARTITIONS,
        kind=KIND,
        name=lambda number: text_of(numbers[number], options.tasks),
        **how,
    )


async def throughput(options: argparse.Namespace) -> list[Line]:
    """Work all objects off while workers die, and prove the joins."""
    tasks = options.objects * (options.tasks + 2)
    first, second = range(options.objects // 2), range(options.objects // 2, options.objects)
    async with running_system(FUNCTIONS) as (broker, fleet):
        await write(broker, first, options)
        fleet.start_all(workers_per_role=options.workers)
        await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
        began_at_s = time.perf_counter()
        async with reading(broker, WINDOWS_CHANGELOG) as windows:
            finished = FinishedTasks(windows)

            async def reached(share: float) -> None:
                wanted = round(tasks * share)
                what = f"{wanted:,} finished tasks"
                await until(
                    lambda: finished.has(wanted), what, fleet=fleet, reviving=options.kills, timeout_s=PATIENCE_S
                )

            for role, share in (("statistics", 0.15), ("processing", 0.3)):
                await reached(share)
                kill(fleet, role, options)
            written_at_s: dict[str, float] = {}
            rate_per_s = len(second) / SECOND_HALF_S
            writing = asyncio.create_task(
                write(broker, second, options, rate_per_s=rate_per_s, accepted_at_s=written_at_s)
            )
            await until(
                lambda: len(written_at_s) >= len(second) // 2, "the second half", fleet=fleet, reviving=options.kills
            )
            kill(fleet, "distribution", options)
            await writing
            await reached(1)
        took_s = time.perf_counter() - began_at_s
        verdict, _ = await verdict_of(broker)
    how = f"{len(ROLES)} kills" if options.kills else "no kills"
    what = f"{options.objects:,} objects of {options.tasks} tasks, split and join"
    return [
        Line(f"map and reduce: tasks/s ({what}; {how}; {verdict})", f"{tasks / took_s:,.0f}", ""),
        Line("map and reduce: whole time, s", f"{took_s:.1f}", ""),
    ]


def kill(fleet: Fleet, role: str, options: argparse.Namespace) -> None:
    """End the first worker of a role as a crash would, where that is wanted."""
    if options.kills:
        fleet.kill(f"{role}-1")
        console.print(f"  killed {role}-1")


async def latency(options: argparse.Namespace) -> list[Line]:
    """Measure from the last task's end to the join's start, after a warm-up of the JVM."""
    async with running_system(FUNCTIONS) as (broker, fleet):
        fleet.start_all()
        await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
        warm_up, measured = options.rate * WARM_UP_S, options.rate * LATENCY_S
        ids = await write(broker, range(warm_up + measured), options, rate_per_s=options.rate)
        async with reading(broker, WINDOWS_CHANGELOG) as windows:
            finished = FinishedTasks(windows)
            wanted = len(ids) * (options.tasks + 2)
            await until(lambda: finished.has(wanted), "all tasks", fleet=fleet, timeout_s=PATIENCE_S)
        verdict, joined = await verdict_of(broker)
    told = joined.times()
    times = [told[one] for one in ids[warm_up:]]
    figure = f"last task's end to join's start at {options.rate} objects/s, median / p99 ({verdict})"
    return [
        Line(figure, spread_of([one.joined_at_ms - one.last_end_at_ms for one in times]), "150 ms median"),
        Line(
            "of that, until a step of the statistics has it: the commit of the task's end, and the step before",
            spread_of([one.requested_at_ms - one.last_end_at_ms for one in times]),
            "",
        ),
        Line(
            "and from there to the join's start: that step and its commit",
            spread_of([one.joined_at_ms - one.requested_at_ms for one in times]),
            "",
        ),
    ]


def spread_of(times_ms: list[int]) -> str:
    """Return median and 99th percentile for people."""
    in_order = sorted(times_ms)
    return f"{statistics.median(in_order):.0f} / {in_order[int(len(in_order) * 0.99)]} ms"


async def main(options: argparse.Namespace) -> None:
    """Run what was asked for."""
    await run_parts({"throughput": [lambda: throughput(options)], "latency": [lambda: latency(options)]}, options.only)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10_000, help="objects of the throughput run (default: 10,000)")
    parser.add_argument("--tasks", type=int, default=20, help="tasks of each object (default: 20)")
    parser.add_argument("--rate", type=int, default=100, help="objects a second of the latency run (default: 100)")
    parser.add_argument("--workers", type=int, default=2, help="of each role in the throughput run (default: 2)")
    parser.add_argument("--kills", action=argparse.BooleanOptionalAction, default=True, help="kill workers (default)")
    parser.add_argument("--only", choices=["throughput", "latency"], help="one part only")
    uvloop.run(main(parser.parse_args()))
