"""Runs the whole system with one sabotaged worker (tests/faults/sabotage) and returns what the checker finds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from checker import differences
from feed import feed
from fleet import ROLES, SESSION_TIMEOUT_S, Fleet, said, until
from follower import Follower

if TYPE_CHECKING:
    from pathlib import Path

    from app.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 600
RATE_PER_S = 400


async def run_sabotaged(
    broker: EmbeddedKafka, fleet: Fleet, role: str, *, second_worker: bool = False, ends: bool = True, **sabotage: str
) -> list[str]:
    """Let one worker of a role be sabotaged, work off objects in two waves, and return what the checker finds.

    With `ends` false a system that never finishes is a finding for the checker, not a failure here.
    """
    marker: Path = fleet.directory / "marker"
    settings = {"SABOTAGE_ROLE": role, "SABOTAGE_MARKER": str(marker), **sabotage}
    fleet.start(role, module="sabotaged", **settings)
    for other in set(ROLES) - {role}:
        fleet.start(other)
    if second_worker:
        fleet.start(role, f"{role}-2")
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, OBJECTS, partitions=PARTITIONS, rate_per_s=RATE_PER_S)
        await until(marker.exists, f"the sabotage of {role}", fleet=fleet)
        if sabotage.get("SABOTAGE_BY") == "freeze":
            await asyncio.sleep(SESSION_TIMEOUT_S + 2)
            fleet.thaw(f"{role}-1")
        accepted += await feed(broker.bootstrap, OBJECTS, partitions=PARTITIONS, rate_per_s=RATE_PER_S)
        try:
            await until(
                lambda: follower.has_finished_objects(2 * OBJECTS), "the end", fleet=fleet, reviving=True, timeout_s=40
            )
        except AssertionError:
            if ends:
                raise
    return await differences(broker.bootstrap, accepted=accepted)
