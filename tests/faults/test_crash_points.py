"""A worker that dies, or freezes beyond its session, at each point of a step: nothing is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from checker import differences
from feed import feed
from fleet import ROLES, SESSION_TIMEOUT_S, Fleet, said, until
from follower import Follower

if TYPE_CHECKING:
    from pathlib import Path

    from app.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 600
POINTS = ("begun", "sent", "offered", "committed", "applied")


async def run_sabotaged(
    broker: EmbeddedKafka, fleet: Fleet, role: str, *, second_worker: bool = False, **sabotage: str
) -> list[str]:
    """Let one worker of a role be sabotaged, work objects off in two waves, and return what the checker finds."""
    marker: Path = fleet.directory / "marker"
    settings = {"SABOTAGE_ROLE": role, "SABOTAGE_MARKER": str(marker), **sabotage}
    fleet.start(role, module="sabotaged", **settings)
    for other in set(ROLES) - {role}:
        fleet.start(other)
    if second_worker:
        fleet.start(role, f"{role}-2")
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, OBJECTS, partitions=PARTITIONS, rate_per_s=400)
        await until(marker.exists, f"the sabotage of {role}", fleet=fleet)
        if sabotage.get("SABOTAGE_BY") == "freeze":
            await asyncio.sleep(SESSION_TIMEOUT_S + 2)
            fleet.thaw(f"{role}-1")
        accepted += await feed(broker.bootstrap, OBJECTS, partitions=PARTITIONS, rate_per_s=400)
        await until(
            lambda: follower.has_finished_objects(2 * OBJECTS), "all objects", fleet=fleet, reviving=True, timeout_s=40
        )
    return await differences(broker.bootstrap, accepted=accepted)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("role", ROLES)
async def test_kill_at_a_point(broker: EmbeddedKafka, fleet: Fleet, role: str, point: str) -> None:
    """A step is done wholly or not at all, wherever its worker dies."""
    found = await run_sabotaged(broker, fleet, role, SABOTAGE_AT=f"{point}:3")
    assert [] == found, "\n".join([*found, fleet.last_words()])


@pytest.mark.parametrize("point", ["begun", "offered"])
@pytest.mark.parametrize("role", ROLES)
async def test_freeze_at_a_point(broker: EmbeddedKafka, fleet: Fleet, role: str, point: str) -> None:
    """A worker that wakes up with a step in hand after others took over commits nothing of it."""
    found = await run_sabotaged(
        broker, fleet, role, second_worker=True, SABOTAGE_AT=f"{point}:3", SABOTAGE_BY="freeze"
    )
    assert [] == found, "\n".join([*found, fleet.last_words()])
