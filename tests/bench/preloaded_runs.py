"""Runs over preloaded requests: all tasks of a run wait on the topic before the processing worker starts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from engine import Watch
from feed import feed
from fleet import said, until
from follower import lag_of
from pipeline import PARTITIONS, running_system
from plain_names import OBJECTS, STATISTICS_APP, TASK_EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from fleet import Fleet

    from ebs.local.embedded_kafka import EmbeddedKafka

TASKS = 3
"""Tasks of each object."""
_PATIENCE_S = 600.0


class PreloadedRuns:
    """A system without a processing worker; `watch` has the times of all tasks, by the events."""

    def __init__(self, broker: EmbeddedKafka, fleet: Fleet) -> None:
        self.broker = broker
        self.fleet = fleet
        self.watch = Watch()

    async def measure(self, kind: str, objects: int, key: Callable[[int], str] | None = None) -> float:
        """Preload objects and work them off; returns the tasks per second."""
        return await self.work_off(await self.preload(kind, objects, key))

    async def preload(self, kind: str, objects: int, key: Callable[[int], str] | None = None) -> list[str]:
        """Submit objects and wait until their requests are on the topic; returns the ids of their tasks.

        `key` returns the key of an object, by its number.
        """
        fields: Any = (lambda _number: {}) if key is None else (lambda number: {"key": key(number)})
        wanted_count = len(self.watch.created_at_ms) + objects * TASKS
        ids = await feed(self.broker.bootstrap, objects, partitions=PARTITIONS, kind=kind, fields=fields)
        await self.wait(lambda: len(self.watch.created_at_ms) == wanted_count, "the requests")
        await until(self._has_no_lag, "the statistics", timeout_s=_PATIENCE_S, fleet=self.fleet)
        return [f"{one}-{sequence}" for one in ids for sequence in range(TASKS)]

    async def work_off(self, tasks: list[str]) -> float:
        """Start a worker and stop it when the tasks have finished; returns the tasks per second."""
        self.fleet.start("processing")
        await self.wait(lambda: all(one in self.watch.finished_at_ms for one in tasks), "all tasks")
        await self.fleet.terminate("processing-1")
        began_at_ms = min(self.watch.started_at_ms[one] for one in tasks)
        return len(tasks) / (max(self.watch.finished_at_ms[one] for one in tasks) - began_at_ms) * 1_000

    async def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        await until(condition, what, timeout_s=_PATIENCE_S, fleet=self.fleet)

    async def _has_no_lag(self) -> bool:
        return await lag_of(self.broker.bootstrap, STATISTICS_APP, [OBJECTS, TASK_EVENTS], PARTITIONS) == 0


@asynccontextmanager
async def preloaded_runs(env: Mapping[str, str]) -> AsyncIterator[PreloadedRuns]:
    """Start a system without a processing worker."""
    async with running_system(env) as (broker, fleet):
        runs = PreloadedRuns(broker, fleet)
        for role in ("distribution", "statistics"):
            fleet.start(role)
        await until(lambda: said(fleet.workers.values(), "Ready"), "workers", fleet=fleet)
        following = asyncio.create_task(runs.watch.follow(broker))
        try:
            yield runs
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following


def told(ratio: str, measured: list[float], compared: list[float]) -> str:
    """Return a ratio for people, with the figures of all runs behind it."""
    return f"{ratio} ({_figures(measured)} and {_figures(compared)})"


def _figures(runs: list[float]) -> str:
    return "/".join(f"{one:,.0f}" for one in runs)
