"""Two of three brokers are away for longer than everything that workers wait for, and come back."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
from api_process import PATIENCE_S
from checker import differences
from feed import feed
from fleet import TAKEN_OVER, Fleet, running_fleet, until
from follower import Follower
from three_brokers import BROKERS, REPLICATED, three_brokers
from topics_anew import all_ready
from worker_pages import read_page

from app.kafka.cluster import Cluster
from app.settings.settings import load
from app.streaming.application import EXIT_FENCED, EXIT_STEP_FAILED
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics
from ebs.recount.reading import open_topics
from ebs.recount.run import Recount

if TYPE_CHECKING:
    from pathlib import Path

PARTITIONS = 4
AWAY_S = 60
OBJECTS = 10_000
SETTINGS = load(partitions=PARTITIONS, tasks_per_object=3, replication_factor=BROKERS, min_insync_replicas=2)


@pytest.mark.parametrize("controllers", [BROKERS, 1])
async def test_system_goes_on_by_itself_when_the_brokers_are_back(tmp_path: Path, controllers: int) -> None:
    """No worker ends because nothing moves, and what they say is that brokers are away. Afterwards all counts match."""
    async with three_brokers(tmp_path, controllers) as cluster:
        kafka = Cluster(cluster.bootstrap)
        await ensure_topics(kafka, catalogue(SETTINGS), timeout_s=PATIENCE_S)
        patience = {**TAKEN_OVER, "EBS_STALL_TIMEOUT_S": "20"}
        with running_fleet(cluster.bootstrap, tmp_path, PARTITIONS, **REPLICATED, **patience) as fleet:
            fleet.start_all()
            await all_ready(fleet)
            accepted = await feed(cluster.bootstrap, OBJECTS, partitions=PARTITIONS)
            async with Follower(cluster.bootstrap, PARTITIONS) as follower:
                await until(lambda: follower.has_finished_tasks(100), "some tasks", fleet=fleet)
            for node in cluster.nodes[1:]:
                node.kill()
            codes = await watched(fleet, AWAY_S)
            await cluster.start()
            async with Follower(cluster.bootstrap, PARTITIONS) as follower:
                await until(
                    lambda: follower.look(lambda: follower.finished_objects >= set(accepted)),
                    "all objects",
                    fleet=fleet,
                    reviving=True,
                    timeout_s=2 * PATIENCE_S,
                )
            await all_ready(fleet)
            assert codes <= {EXIT_STEP_FAILED, EXIT_FENCED}, fleet.last_words()
            assert [] == await differences(cluster.bootstrap, accepted=accepted)
            async with open_topics(kafka, SETTINGS.names) as reader:
                assert [] == (await Recount(reader, SETTINGS).run()).differences


async def watched(fleet: Fleet, duration_s: float) -> set[int]:
    """Let workers that end start again for so long; returns their exit codes. All say soon that they cannot work."""
    codes: set[int] = set()
    end_at_s = time.monotonic() + duration_s
    has_said = False
    while time.monotonic() < end_at_s:
        workers = fleet.workers.values()
        codes |= {one.exit_code for one in workers if one.exit_code is not None}
        fleet.revive()
        has_said = has_said or all(is_not_ready(fleet, one.name) for one in workers)
        if not has_said:
            assert time.monotonic() < end_at_s - duration_s / 2, "workers are ready although their brokers are away"
        await asyncio.sleep(1)
    return codes


def is_not_ready(fleet: Fleet, name: str) -> bool:
    """Return whether a worker says that brokers are away; one that has just started says nothing yet."""
    page = read_page(fleet.workers[name], "/readyz")
    return page.status == HTTPStatus.SERVICE_UNAVAILABLE and "roker" in page.text
