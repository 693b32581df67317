"""Clocks that are an hour wrong, either way, while tasks wait for each reason there is, and schedules fire.

Nothing is lost, nothing ends twice, the order by key and the rate hold. A worker whose clock is right starts nothing
early, whoever wrote what waits there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from api_process import PATIENCE_S
from checker import Topics, judge, read_topics
from clocked_project import CLOCKED, DELAYED, KEYED, RATE_PER_S, RATED, RETRIED, out_of_order, read_runs
from feed import feed
from fleet import PATIENT, TAKEN_OVER, Fleet, said, until
from follower import Follower
from scheduled import Fired, every_second, set_schedules

from app.kafka.cluster import Cluster
from app.settings.settings import load
from ebs.recount.reading import open_topics
from ebs.recount.run import Recount

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import Worker

    from ebs.local.embedded_kafka import EmbeddedKafka
    from ebs.recount.findings import Findings

PARTITIONS = 4
OBJECTS = 40
TASKS = 3
DELAY_S = 6
HOUR_S = 3_500
"""A little less: Kafka 4 refuses a record that is stamped more than an hour ahead."""
SCHEDULES = 20
RIGHT = "right"
"""The name of the worker whose clock is never set."""


class Clock:
    """The clock of some workers, right at first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ahead_s = 0

    def environment(self, role: str) -> dict[str, str]:
        """Return the settings of a worker that has this clock."""
        return {"SHIFTED_ROLE": role, "SHIFTED_FILE": str(self._path)}

    async def set(self, ahead_s: int, *workers: Worker) -> None:
        """Set it, and wait until the workers say that they have noticed."""
        before_s, self._ahead_s = self._ahead_s, ahead_s
        self._path.write_text(str(ahead_s))
        text = f"the clock of this machine went {ahead_s - before_s:+d} s"
        await until(lambda: said(workers, text), f"the workers to notice that their clock is {ahead_s:+d} s ahead")


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
async def test_clocks_of_distribution_and_of_one_of_two_workers(
    broker: EmbeddedKafka, fleet: Fleet, ahead_s: int
) -> None:
    """They are set while tasks wait, and set right again once the other worker has done its part."""
    runs = fleet.directory / "runs"
    settings = CLOCKED | {"CLOCKED_RUNS": str(runs)}
    clock = Clock(fleet.directory / "clock")
    shifted = {"module": "shifted", **settings}
    distribution = fleet.start("distribution", **shifted, **PATIENT, **clock.environment("distribution"))
    wrong = fleet.start("processing", **shifted, **TAKEN_OVER, **clock.environment("processing"))
    fleet.start("processing", "processing-2", **settings, **TAKEN_OVER, EBS_WORKER_ID=RIGHT)
    fleet.start("statistics", **settings, **PATIENT)
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed_all(broker)
        await until(lambda: follower.has_started_tasks(TASKS * OBJECTS), "some tasks to start", fleet=fleet)
        await clock.set(ahead_s, distribution, wrong)
        accepted += await feed_all(broker)
        # The clock that is behind lets delayed tasks and retries of its worker wait; the other worker has half of all.
        half = len(accepted) * TASKS // 2
        await until(lambda: follower.has_finished_tasks(half), "half of the tasks", fleet=fleet)
        await clock.set(0, distribution, wrong)
        await until(lambda: follower.has_finished_objects(len(accepted)), "all objects", fleet=fleet, reviving=True)
    topics = await read_topics(broker.bootstrap)
    found = judge(topics, accepted=accepted) + early_starts(topics) + out_of_order(read_runs(runs))
    assert [] == found, "\n".join([*found, fleet.last_words()])
    counted = await recount(broker.bootstrap)
    assert ([], True) == (counted.differences[:20], counted.objects > 0), fleet.last_words()
    rated = sorted(run.begin_s for run in read_runs(runs) if run.kind == RATED)
    fastest_s = min(after - before for before, after in zip(rated, rated[RATE_PER_S:], strict=False))
    assert fastest_s > 0.7, f"{RATE_PER_S} tasks started within {fastest_s:.2f} s"


async def recount(bootstrap: str) -> Findings:
    """Compare the tables of the statistics, whose clock is right, with the topics."""
    settings = load(broker=bootstrap, partitions=PARTITIONS, tasks_per_object=TASKS)
    async with open_topics(Cluster(bootstrap), settings.names) as reader:
        return await Recount(reader, settings).run()


async def feed_all(broker: EmbeddedKafka) -> list[str]:
    """Submit objects of each kind; returns their ids."""
    accepted: list[str] = []
    for kind in (DELAYED, RETRIED, KEYED, RATED):
        fields = {"delay_s": DELAY_S} if kind == DELAYED else {}
        objects: Any = {"kind": kind, "fields": lambda _number, fields=fields: fields}
        accepted += await feed(broker.bootstrap, OBJECTS, partitions=PARTITIONS, **objects)
    return accepted


def early_starts(topics: Topics) -> list[str]:
    """Return which delayed tasks the worker whose clock is right has started early."""
    starts = [
        event
        for events in topics.events.values()
        for event in events
        if event["type"] == "TASK_STARTED" and event["kind"] == DELAYED and event["worker"] == RIGHT
    ]
    assert starts, "the worker whose clock is right has started nothing"
    left_ms = {one["id"]: topics.objects[one["object_id"]]["at_ms"] + 1_000 * DELAY_S - one["at_ms"] for one in starts}
    return [f"{name} was {early_ms} ms early" for name, early_ms in left_ms.items() if early_ms > 0]


async def test_schedules_of_workers_that_are_an_hour_off(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """One is ahead, one behind, and both are set right: each instant makes one object."""
    ahead, behind = Clock(fleet.directory / "ahead"), Clock(fleet.directory / "behind")
    first, second = (
        fleet.start(
            "distribution", f"distribution-{number}", module="shifted", **PATIENT, **clock.environment("distribution")
        )
        for number, clock in enumerate((ahead, behind), 1)
    )
    await until(lambda: said([first, second], "are ready: "), "two workers", fleet=fleet)
    schedules = every_second(SCHEDULES, last_s=30)  # so long that some are left when the clocks are set
    async with Fired(broker.bootstrap, schedules, PARTITIONS) as fired:
        await set_schedules(broker.bootstrap, schedules, PARTITIONS)
        await until(lambda: fired.has(2 * SCHEDULES), "the first instants", fleet=fleet)
        await asyncio.gather(ahead.set(HOUR_S, first), behind.set(-HOUR_S, second))
        await until(fired.has_early_ones, "instants by the clock that is ahead", fleet=fleet)
        await asyncio.gather(ahead.set(0, first), behind.set(0, second))
        everything = fired.expected_count
        await until(lambda: fired.has(everything), "all instants", fleet=fleet, timeout_s=2 * PATIENCE_S)
        found = fired.differences()
    assert [] == found, "\n".join([*found[:20], fleet.last_words()])
