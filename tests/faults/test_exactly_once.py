"""Every accepted object ends with exactly its tasks, each event once, ledger and windows equal to a recount.

Each test drives real workers on a real broker under load, does something terrible, and lets the checker read all
topics. The load flows all the while: a fault in an idle system proves nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from api_process import PATIENCE_S
from checker import differences
from feed import feed
from fleet import PATIENT, ROLES, SESSION_TIMEOUT_S, Fleet, owned, until
from follower import Follower

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 3_000
BACKLOG = 20_000
RATE_PER_S = 300
ALL_WORK_S = 2 * PATIENCE_S


class Load:
    """Objects that flow in while faults happen."""

    def __init__(self, broker: EmbeddedKafka, follower: Follower, count: int = OBJECTS) -> None:
        self._broker = broker
        self._follower = follower
        self._count = count
        self._feeding = asyncio.create_task(feed(broker.bootstrap, count, partitions=PARTITIONS, rate_per_s=RATE_PER_S))

    async def reaches(self, tasks: int, fleet: Fleet) -> None:
        """Wait until `tasks` are finished: the load is under way."""
        await until(lambda: self._follower.has_finished_tasks(tasks), f"{tasks} tasks", fleet=fleet, reviving=True)

    async def ends_exactly(self, fleet: Fleet) -> None:
        """Wait until everything is finished, reviving what dies, and let the checker prove it."""
        accepted = await self._feeding
        await until(
            lambda: self._follower.has_finished_objects(self._count),
            f"{self._count} finished objects",
            fleet=fleet,
            reviving=True,
            timeout_s=ALL_WORK_S,
        )
        found = await differences(self._broker.bootstrap, accepted=accepted)
        assert [] == found, "\n".join([*found, fleet.last_words()])


async def test_one_worker_a_role_without_any_fault(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """The checker finds nothing when nothing happened."""
    fleet.start_all()
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        load = Load(broker, follower)
        await load.ends_exactly(fleet)


@pytest.mark.parametrize("role", ROLES)
async def test_kill_of_the_only_worker(broker: EmbeddedKafka, fleet: Fleet, role: str) -> None:
    """A worker killed under load goes on where its last commit was."""
    fleet.start_all()
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        load = Load(broker, follower)
        await load.reaches(1_000, fleet)
        fleet.kill(f"{role}-1")
        assert [f"{role}-1"] == fleet.revive()
        await load.ends_exactly(fleet)


@pytest.mark.parametrize("role", ROLES)
async def test_kill_of_one_of_two_workers(broker: EmbeddedKafka, fleet: Fleet, role: str) -> None:
    """The other worker takes over all partitions, without a restart of the first."""
    fleet.start_all(workers_per_role=2)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        load = Load(broker, follower)
        await load.reaches(1_000, fleet)
        fleet.kill(f"{role}-1")
        del fleet.workers[f"{role}-1"]
        await load.ends_exactly(fleet)


@pytest.mark.parametrize("role", ROLES)
async def test_freeze_beyond_the_session(broker: EmbeddedKafka, fleet: Fleet, role: str) -> None:
    """A worker that was frozen while others took its partitions is fenced when it wakes up with a step in hand."""
    fleet.start_all(workers_per_role=2)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        load = Load(broker, follower)
        await load.reaches(500, fleet)
        fleet.freeze(f"{role}-1")
        second = fleet.workers[f"{role}-2"]
        await until(lambda: owned(second) == list(range(PARTITIONS)), "the taking over", fleet=fleet, reviving=True)
        await load.reaches(min(len(follower.finished_tasks) + 300, 3 * OBJECTS), fleet)
        fleet.thaw(f"{role}-1")
        await load.ends_exactly(fleet)


async def test_workers_join_and_leave_under_load(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Rebalances neither lose nor repeat anything; a worker that is asked to leave ends with exit code 0."""
    fleet.start_all(**PATIENT)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        load = Load(broker, follower)
        await load.reaches(500, fleet)
        for role in ROLES:
            fleet.start(role, f"{role}-2", **PATIENT)
        await load.reaches(3_500, fleet)
        for role in ROLES:
            await fleet.terminate(f"{role}-1", expected_code=0)
        await load.ends_exactly(fleet)


async def test_kill_of_the_broker(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """A broker that dies and comes back finds its clients waiting; what was acknowledged is worked off, once."""
    fleet.start_all()
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, BACKLOG, partitions=PARTITIONS)
        await until(lambda: follower.has_finished_tasks(1_000), "some tasks", fleet=fleet, reviving=True)
        broker.kill()
        assert len(follower.finished_objects) < BACKLOG
        await broker.start()
        await until(
            lambda: follower.has_finished_objects(BACKLOG),
            "all objects",
            fleet=fleet,
            reviving=True,
            timeout_s=ALL_WORK_S,
        )
    assert [] == await differences(broker.bootstrap, accepted=accepted)


async def test_freeze_of_the_broker_beyond_every_timeout(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """A broker that stands still for longer than sessions and transactions last costs time, nothing else."""
    fleet.start_all()
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, BACKLOG, partitions=PARTITIONS)
        await until(lambda: follower.has_finished_tasks(1_000), "some tasks", fleet=fleet, reviving=True)
        broker.pause()
        assert len(follower.finished_objects) < BACKLOG
        await asyncio.sleep(SESSION_TIMEOUT_S + 5)
        broker.resume()
        await until(
            lambda: follower.has_finished_objects(BACKLOG),
            "all objects",
            fleet=fleet,
            reviving=True,
            timeout_s=ALL_WORK_S,
        )
    assert [] == await differences(broker.bootstrap, accepted=accepted)
