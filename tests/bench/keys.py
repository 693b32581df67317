"""Limits by key, and what a paused kind costs others: `make bench-keys`, or `make bench-keys BENCH="--only keys"`.

- keys: preloaded tasks of 10 ms with 10,000 keys, one task of each key at once; and the same tasks without a limit, in
  turn. Checked for every key, by the events: each task began after the end of the one before it.
- hot: keyed objects at a steady rate, of which nine in ten have one key, and the same with a key for each object. The
  figure is the 99th percentile of the time from creation to end of the other tenth.
- paused: preloaded objects that take no time, alone and while tasks of a paused kind wait in the same partitions.

Run it on a machine that does nothing else. At the end the checker reads all topics.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer
from checker import read_all
from feed import feed
from keyed_project import KEYED
from pipeline import PARTITIONS, Line, check, run_parts
from plain_names import CONTROL, TASK_REQUESTS
from preloaded_runs import TASKS, preloaded_runs, told

if TYPE_CHECKING:
    from preloaded_runs import PreloadedRuns

KEYS = 10_000
KEYED_OBJECTS = 20_000
STEADY_PER_S = 10
"""Objects per second: the tasks of the one key then take a minute, one after another."""
STEADY_S = 30
HOT_SHARE = 9
HOT_WARM_UPS = 2
INSTANT_OBJECTS = 20_000


async def keys(runs: int) -> list[Line]:
    """Work many keys off, each in order."""
    async with preloaded_runs(KEYED) as system:
        free, keyed = [], []
        await system.measure("free", 500)
        for _ in range(runs):
            free.append(await system.measure("free", KEYED_OBJECTS))
            keyed.append(await system.measure("keyed", KEYED_OBJECTS, lambda number: f"k{number % KEYS}"))
        overtaken = await _overtaken(system)
        verdict = await check(system.broker)
    ratio = statistics.median(keyed) / statistics.median(free)
    return [
        Line(
            f"{KEYS:,} keys, one at once: share of the tasks/s without a limit ({verdict})",
            told(f"{ratio:.2f}", keyed, free),
            "0.9",
        ),
        Line("tasks that began before the previous task of their key had ended", f"{overtaken}", "0"),
    ]


async def hot(runs: int) -> list[Line]:
    """Give one key nine tenths of all tasks; beside it the same tasks, each object with a key of its own."""
    async with preloaded_runs(KEYED) as system:
        spread, of_one = [], []
        system.fleet.start("processing")
        for _ in range(HOT_WARM_UPS):  # the first runs of a JVM are slow
            await _p99_ms(system, hot_key="hot")
        for _ in range(runs):
            spread.append(await _p99_ms(system, hot_key=""))
            of_one.append(await _p99_ms(system, hot_key="hot"))
        verdict = await check(system.broker)
    ratio = statistics.median(of_one) / statistics.median(spread)
    return [
        Line(
            f"p99 of other keys, ms: beside one key with 90 % of the tasks, to keys with equal shares ({verdict})",
            told(f"{ratio:.2f}", of_one, spread),
            "1.2",
        )
    ]


async def _p99_ms(system: PreloadedRuns, *, hot_key: str) -> float:
    """Return the p99 of one tenth of the tasks; the others have `hot_key`, or keys of their own if it is empty."""
    count = STEADY_PER_S * STEADY_S
    began = f"{time.time_ns()}"
    of_hot = asyncio.create_task(
        feed(
            system.broker.bootstrap,
            count * HOT_SHARE,
            partitions=PARTITIONS,
            kind="keyed",
            rate_per_s=STEADY_PER_S * HOT_SHARE,
            fields=lambda number: {"key": hot_key or f"{began}-hot-{number}"},
        )
    )
    others = await feed(
        system.broker.bootstrap,
        count,
        partitions=PARTITIONS,
        kind="keyed",
        rate_per_s=STEADY_PER_S,
        fields=lambda number: {"key": f"{began}-{number}"},
    )
    tasks = [f"{other}-0" for other in others]
    hot_tasks = [f"{one_id}-{number}" for one_id in await of_hot for number in range(TASKS)]
    finished = system.watch.finished_at_ms
    await system.wait(lambda: all(task in finished for task in tasks), "the others")
    latencies = sorted(finished[task] - system.watch.created_at_ms[task] for task in tasks)
    await system.wait(lambda: all(task in finished for task in hot_tasks), "the tasks of the one key")
    return float(latencies[len(latencies) * 99 // 100])


async def paused(runs: int, waiting: int) -> list[Line]:
    """Let a paused kind wait in the same partitions."""
    async with preloaded_runs(KEYED) as system:
        await system.measure("instant", 500)
        alone = [await system.measure("instant", INSTANT_OBJECTS) for _ in range(runs)]
        await _pause(system, "stopped")
        stopped = await system.preload("stopped", waiting // TASKS)
        await system.measure("instant", 500)
        beside = [await system.measure("instant", INSTANT_OBJECTS) for _ in range(runs)]
        await _pause(system, "stopped", on=False)
        resumed = await system.work_off(stopped)
        verdict = await check(system.broker)
    ratio = statistics.median(beside) / statistics.median(alone)
    return [
        Line(
            f"tasks/s beside {len(stopped):,} of a paused kind, to those alone ({verdict})",
            told(f"{ratio:.2f}", beside, alone),
            "0.95",
        ),
        Line("tasks/s of the paused kind when it is resumed", f"{resumed:,.0f}", ""),
    ]


async def _pause(system: PreloadedRuns, kind: str, *, on: bool = True) -> None:
    """Pause a kind, or undo that."""
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        value = b'{"type":"PAUSE","at_ms":1}' if on else None
        await producer.send_and_wait(CONTROL, value, key=f"pause:{kind}".encode(), partition=0)


async def _overtaken(system: PreloadedRuns) -> int:
    """Count the tasks that began before the previous task of their key had ended, in the order of the requests."""
    by_key: dict[str, list[str]] = defaultdict(list)
    async for record in read_all(system.broker.bootstrap, [TASK_REQUESTS]):
        request = msgspec.json.decode(record.value)
        if "key" in request:
            by_key[request["key"]].append(request["task_id"])
    began, ended = system.watch.started_at_ms, system.watch.finished_at_ms
    return sum(began[after] < ended[before] for tasks in by_key.values() for before, after in pairwise(tasks))


async def main(options: argparse.Namespace) -> None:
    """Run what was asked for."""
    parts = {
        "keys": [lambda: keys(options.runs)],
        "hot": [lambda: hot(options.runs)],
        "paused": [lambda: paused(options.runs, options.waiting)],
    }
    await run_parts(parts, options.only)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of each variant (default: 3)")
    parser.add_argument("--waiting", type=int, default=500_000, help="tasks of the paused kind (default: 500,000)")
    parser.add_argument("--only", choices=("keys", "hot", "paused"), help="one part only")
    uvloop.run(main(parser.parse_args()))
