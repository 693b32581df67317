"""Runs the whole system with one sabotaged worker (tests/faults/sabotage) and returns what the checker finds.

The objects are split, joined, and submit one another in chains: so all of that is under way when the sabotage comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from api_process import PATIENCE_S
from checker import differences
from feed import feed, feeding
from fleet import ROLES, Fleet, owned, said, until
from follower import Follower, lag_of
from joined_objects import Joined, chain_length, text
from joined_project import CHAINED, JOINED
from plain_names import DISTRIBUTION_APP, PROCESSING_APP, STATISTICS_APP, TASK_EVENTS, TASK_REQUESTS
from plain_names import OBJECTS as OBJECTS_TOPIC

if TYPE_CHECKING:
    from pathlib import Path

    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 100
"""Fed after the sabotage; each is the head of a chain of one to five."""
RATE_PER_S = 100
MIDST = 30
"""A step of a worker in which splits, tasks, joins and new objects of chains are on their way."""
INPUTS = {
    "distribution": (DISTRIBUTION_APP, [OBJECTS_TOPIC]),
    "processing": (PROCESSING_APP, [TASK_REQUESTS]),
    "statistics": (STATISTICS_APP, [OBJECTS_TOPIC, TASK_EVENTS]),
}
"""Group and topics of each role."""


async def run_sabotaged(
    broker: EmbeddedKafka, fleet: Fleet, role: str, *, second_worker: bool = False, ends: bool = True, **sabotage: str
) -> list[str]:
    """Let one worker of a role be sabotaged while objects come in, feed some more, and return what the checker finds.

    With `ends` false a system that never finishes is a finding for the checker, not a failure here.
    """
    marker: Path = fleet.directory / "marker"
    settings = {"SABOTAGE_ROLE": role, "SABOTAGE_MARKER": str(marker), **JOINED, **sabotage}
    fleet.start(role, module="sabotaged", **settings)
    for other in set(ROLES) - {role}:
        fleet.start(other, **JOINED)
    if second_worker:
        fleet.start(role, f"{role}-2", **JOINED)
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        objects = {"partitions": PARTITIONS, "rate_per_s": RATE_PER_S, "kind": CHAINED, "name": text}
        async with feeding(broker.bootstrap, **objects) as accepted:
            await until(marker.exists, f"the sabotage of {role}", fleet=fleet, reviving=True)
        if sabotage.get("SABOTAGE_BY") == "freeze":
            await _until_the_other_one_has_done_it(broker, fleet, role)
            fleet.thaw(f"{role}-1")
        fed_count = len(accepted)
        accepted += await feed(broker.bootstrap, OBJECTS, **objects)
        object_count = sum(map(chain_length, (*range(fed_count), *range(OBJECTS))))
        try:
            await until(
                lambda: follower.has_finished_objects(object_count),
                "the end",
                fleet=fleet,
                reviving=True,
                timeout_s=2 * PATIENCE_S if ends else 60,
            )
        except AssertionError:
            if ends:
                raise
    joined = Joined()
    await joined.read(broker.bootstrap)
    return [*await differences(broker.bootstrap, accepted=accepted), *joined.differences()]


async def _until_the_other_one_has_done_it(broker: EmbeddedKafka, fleet: Fleet, role: str) -> None:
    """Wait until the second worker has all partitions of the frozen one, and has done what that one has in hand."""
    second = fleet.workers[f"{role}-2"]
    group, topics = INPUTS[role]

    async def has_done_all() -> bool:
        if owned(second) != list(range(PARTITIONS)):
            return False
        return await lag_of(broker.bootstrap, group, topics, PARTITIONS) == 0

    await until(has_done_all, f"{second.name} to take over and catch up", fleet=fleet, reviving=True)
