"""Limits by key, and what a paused kind costs others: `make bench-keys`, or `make bench-keys BENCH="--only keys"`.

- keys: 10,000 keys, one task of each at once, tasks of 10 ms, preloaded; beside it the same tasks without a limit, in
  turn. The order of every key is checked in the events: each task began after the end of the one before it.
- hot: keyed objects at a steady rate, of which nine in ten have one key, and the same with a key for each object: the
  99th percentile of the time from creation to end of the tenth object in ten.
- paused: preloaded objects that take no time, alone and with tasks of a paused kind waiting in the same partitions.

Run it on a machine that does nothing else. It ends with the checker over all topics.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer
from checker import read_all
from engine import Watch
from feed import feed
from fleet import said, until
from follower import lag_of
from keyed_project import KEYED
from pipeline import PARTITIONS, Line, check, run_parts, running_system
from plain_names import CONTROL, OBJECTS, STATISTICS_APP, TASK_EVENTS, TASK_REQUESTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fleet import Fleet

    from ebs.local.embedded_kafka import EmbeddedKafka

TASKS = 3
"""Of each object."""
KEYS = 10_000
KEYED_OBJECTS = 20_000
STEADY_PER_S = 10
"""Objects: what comes of the one key takes a minute, one task after another."""
STEADY_S = 30
HOT_SHARE = 9
HOT_WARM_UPS = 2
INSTANT_OBJECTS = 20_000
PATIENCE_S = 600.0


class Bench:
    """One system; the processing worker starts when a run begins."""

    def __init__(self, broker: EmbeddedKafka, fleet: Fleet) -> None:
        self.broker = broker
        self.fleet = fleet
        self.watch = Watch()

    async def preload(self, kind: str, count: int, key: Callable[[int], str] | None = None) -> list[str]:
        """Let objects be distributed; returns the ids of their tasks."""
        fields: Any = (lambda _number: {}) if key is None else (lambda number: {"key": key(number)})
        wanted = len(self.watch.created_at_ms) + count * TASKS
        ids = await feed(self.broker.bootstrap, count, partitions=PARTITIONS, kind=kind, fields=fields)
        await self.come(lambda: len(self.watch.created_at_ms) == wanted, "the requests")
        await until(self._has_no_lag, "the statistics", timeout_s=PATIENCE_S, fleet=self.fleet)
        return [f"{one}-{sequence}" for one in ids for sequence in range(TASKS)]

    async def work_off(self, tasks: list[str]) -> float:
        """Return the tasks per second of a worker that starts now."""
        self.fleet.start("processing")
        await self.come(lambda: all(one in self.watch.finished_at_ms for one in tasks), "all tasks")
        await self.fleet.terminate("processing-1")
        began_at_ms = min(self.watch.started_at_ms[one] for one in tasks)
        return len(tasks) / (max(self.watch.finished_at_ms[one] for one in tasks) - began_at_ms) * 1_000

    async def pause(self, kind: str, *, on: bool = True) -> None:
        """Pause a kind, or no longer."""
        async with AIOKafkaProducer(bootstrap_servers=self.broker.bootstrap) as producer:
            value = b'{"type":"PAUSE","at_ms":1}' if on else None
            await producer.send_and_wait(CONTROL, value, key=f"pause:{kind}".encode(), partition=0)

    async def come(self, condition: object, what: str) -> None:
        """Wait for a condition."""
        await until(condition, what, timeout_s=PATIENCE_S, fleet=self.fleet)  # type: ignore[arg-type]

    async def _has_no_lag(self) -> bool:
        return await lag_of(self.broker.bootstrap, STATISTICS_APP, [OBJECTS, TASK_EVENTS], PARTITIONS) == 0


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Start a system without a processing worker."""
    async with running_system(KEYED) as (broker, fleet):
        one = Bench(broker, fleet)
        for role in ("distribution", "statistics"):
            fleet.start(role)
        await until(lambda: said(fleet.workers.values(), "Ready"), "workers", fleet=fleet)
        following = asyncio.create_task(one.watch.follow(broker))
        try:
            yield one
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following


async def keys(runs: int) -> list[Line]:
    """Work many keys off, each in order."""
    async with bench() as one:
        free, keyed = [], []
        await one.work_off(await one.preload("free", 500))
        for _ in range(runs):
            free.append(await one.work_off(await one.preload("free", KEYED_OBJECTS)))
            tasks = await one.preload("keyed", KEYED_OBJECTS, key=lambda number: f"k{number % KEYS}")
            keyed.append(await one.work_off(tasks))
        overtaken = await _overtaken(one)
        verdict = await check(one.broker)
    ratio = statistics.median(keyed) / statistics.median(free)
    return [
        Line(
            f"{KEYS:,} keys, one at once: share of the tasks/s without a limit ({verdict})",
            _told(ratio, keyed, free),
            "0.9",
        ),
        Line("tasks that began before the end of the one before it of their key", f"{overtaken}", "0"),
    ]


async def hot(runs: int) -> list[Line]:
    """Give one key nine tenths of all tasks; beside it the same tasks, each object with a key of its own."""
    async with bench() as one:
        spread, of_one = [], []
        one.fleet.start("processing")
        for _ in range(HOT_WARM_UPS):  # the first runs of a JVM are slow
            await _p99_ms(one, hot_key="hot")
        for _ in range(runs):
            spread.append(await _p99_ms(one, hot_key=""))
            of_one.append(await _p99_ms(one, hot_key="hot"))
        verdict = await check(one.broker)
    ratio = statistics.median(of_one) / statistics.median(spread)
    return [
        Line(
            f"p99 of other keys, ms: beside one key with 90 % of the tasks, to keys with equal shares ({verdict})",
            _told(ratio, of_one, spread),
            "1.2",
        )
    ]


async def _p99_ms(one: Bench, *, hot_key: str) -> float:
    """Return the p99 of one tenth of the tasks; the others have `hot_key`, or keys of their own if it is empty."""
    count = STEADY_PER_S * STEADY_S
    began = f"{time.time_ns()}"
    of_hot = asyncio.create_task(
        feed(
            one.broker.bootstrap,
            count * HOT_SHARE,
            partitions=PARTITIONS,
            kind="keyed",
            rate_per_s=STEADY_PER_S * HOT_SHARE,
            fields=lambda number: {"key": hot_key or f"{began}-hot-{number}"},
        )
    )
    others = await feed(
        one.broker.bootstrap,
        count,
        partitions=PARTITIONS,
        kind="keyed",
        rate_per_s=STEADY_PER_S,
        fields=lambda number: {"key": f"{began}-{number}"},
    )
    tasks = [f"{other}-0" for other in others]
    hot_tasks = [f"{one_id}-{number}" for one_id in await of_hot for number in range(TASKS)]
    finished = one.watch.finished_at_ms
    await one.come(lambda: all(task in finished for task in tasks), "the others")
    latencies = sorted(finished[task] - one.watch.created_at_ms[task] for task in tasks)
    await one.come(lambda: all(task in finished for task in hot_tasks), "the tasks of the one key")
    return float(latencies[len(latencies) * 99 // 100])


async def paused(runs: int, waiting: int) -> list[Line]:
    """Let a paused kind wait in the same partitions."""
    async with bench() as one:
        await one.work_off(await one.preload("instant", 500))
        alone = [await one.work_off(await one.preload("instant", INSTANT_OBJECTS)) for _ in range(runs)]
        await one.pause("stopped")
        stopped = await one.preload("stopped", waiting // TASKS)
        await one.work_off(await one.preload("instant", 500))
        beside = [await one.work_off(await one.preload("instant", INSTANT_OBJECTS)) for _ in range(runs)]
        await one.pause("stopped", on=False)
        resumed = await one.work_off(stopped)
        verdict = await check(one.broker)
    ratio = statistics.median(beside) / statistics.median(alone)
    return [
        Line(
            f"tasks/s beside {len(stopped):,} of a paused kind, to those alone ({verdict})",
            _told(ratio, beside, alone),
            "0.95",
        ),
        Line("tasks/s of the paused kind when it is resumed", f"{resumed:,.0f}", ""),
    ]


async def _overtaken(one: Bench) -> int:
    """Count the tasks that began before the one before it of their key ended, in the order of their requests."""
    by_key: dict[str, list[str]] = defaultdict(list)
    async for record in read_all(one.broker.bootstrap, [TASK_REQUESTS]):
        request = msgspec.json.decode(record.value)
        if "key" in request:
            by_key[request["key"]].append(request["task_id"])
    began, ended = one.watch.started_at_ms, one.watch.finished_at_ms
    return sum(began[after] < ended[before] for tasks in by_key.values() for before, after in pairwise(tasks))


def _told(ratio: float, limited: list[float], free: list[float]) -> str:
    return f"{ratio:.2f} ({_figures(limited)} and {_figures(free)})"


def _figures(runs: list[float]) -> str:
    return "/".join(f"{one:,.0f}" for one in runs)


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
