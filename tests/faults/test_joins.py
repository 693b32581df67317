"""Objects that are split and joined: each join exactly once, with all results in order, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from api_process import PATIENCE_S
from checker import differences
from feed import feed
from fleet import PATIENT, ROLES, Fleet, said, until
from follower import Follower
from joined_objects import Joined, text
from joined_project import JOINED, KIND

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 600
RATE_PER_S = 100


async def test_each_join_runs_once_with_all_results_in_order(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """A worker of each role is killed while objects are split, worked and joined."""
    for role in ROLES:
        for number in (1, 2):
            fleet.start(role, f"{role}-{number}", **(PATIENT | JOINED))
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        feeding = asyncio.create_task(
            feed(broker.bootstrap, OBJECTS, partitions=PARTITIONS, rate_per_s=RATE_PER_S, kind=KIND, name=text)
        )
        for part, role in enumerate(ROLES, start=1):
            wanted = part * OBJECTS // 2
            await until(
                lambda wanted=wanted: follower.has_finished_tasks(wanted),
                f"{wanted} finished tasks",
                fleet=fleet,
                reviving=True,
            )
            fleet.kill(f"{role}-1")
        accepted = await feeding
        await until(
            lambda: follower.has_finished_objects(OBJECTS),
            f"{OBJECTS} finished objects",
            fleet=fleet,
            reviving=True,
            timeout_s=2 * PATIENCE_S,
        )
    joined = Joined()
    await joined.read(broker.bootstrap)
    found = [*joined.differences(), *await differences(broker.bootstrap, accepted=accepted)]
    assert [] == found, "\n".join([*found[:20], fleet.last_words()])
