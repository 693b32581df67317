"""`per_key=1` on a real broker: one task of an object at a time, through kills and rebalances."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from checker import differences
from feed import feed
from fleet import PATIENT, TAKEN_OVER, until
from follower import Follower
from order_handlers import meetings, read_spans

if TYPE_CHECKING:
    from fleet import Fleet

    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 120
TASKS = 3


async def test_tasks_of_an_object_never_meet(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Workers killed with tasks in flight: none is lost, each counts once, no two of an object ran at once."""
    path = fleet.directory / "spans"
    fleet.start("distribution", EBS_PROJECT="order_handlers", **PATIENT)
    fleet.start("statistics", **PATIENT)
    spanned = {"EBS_PROJECT": "order_handlers", "ORDER_HANDLER_SPANS": str(path)}
    for name in ("processing-1", "processing-2"):
        fleet.start("processing", name, **spanned, **TAKEN_OVER)
    await until(
        lambda: all("are ready: " in worker.log() for worker in fleet.workers.values()), "all workers", fleet=fleet
    )
    killed_at_s: dict[int, float] = {}
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted: list[str] = []
        for name in ("processing-1", "processing-2", "processing-1"):
            enough = len(accepted) * TASKS + 40
            accepted += await feed(broker.bootstrap, OBJECTS // 3, partitions=PARTITIONS)
            await until(lambda enough=enough: follower.has_finished_tasks(enough), "some tasks", fleet=fleet)
            # Before it is dead rather than after: its runs must not seem to go on while this process is held up.
            killed_at_s[fleet.workers[name].process.pid] = time.monotonic()
            fleet.kill(name)
            fleet.revive()
        await until(lambda: follower.has_finished_objects(OBJECTS), "all objects", fleet=fleet, reviving=True)
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, found
    spans = read_spans(path, killed_at_s)
    assert OBJECTS * TASKS <= len(spans)
    assert {process for process in killed_at_s if any(span.process == process for span in spans)} == set(killed_at_s)
    assert [] == meetings(spans)
