"""Workers that are away until Kafka itself deletes their committed offsets (`offsets.retention.minutes`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from api_process import PATIENCE_S
from checker import differences
from feed import feed
from fleet import ROLES, TAKEN_OVER, Fleet, running_fleet, until
from follower import Follower, lag_of
from topics_anew import all_ready
from typer.testing import CliRunner

from app.kafka.cluster import Cluster
from app.names import BARE, DISTRIBUTION, PROCESSING, STATISTICS
from app.settings.settings import load
from app.streaming.application import EXIT_UNDECIDED
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics
from ebs.cli import cli
from ebs.local.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PARTITIONS = 4
FORGETFUL = "\noffsets.retention.minutes=1\noffsets.retention.check.interval.ms=5000\n"


@pytest.fixture
async def forgetful(tmp_path: Path) -> AsyncIterator[EmbeddedKafka]:
    """Return a broker that deletes the offsets of a group a minute after its last member has left."""
    broker = EmbeddedKafka(tmp_path, port=0, extra_properties=FORGETFUL)
    try:
        await broker.start()
        specs = catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS))
        await ensure_topics(Cluster(broker.bootstrap), specs, timeout_s=PATIENCE_S)
        yield broker
    finally:
        broker.kill()


async def test_no_finished_task_runs_again_when_kafka_has_deleted_the_offsets(
    forgetful: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All roles at once, with finished and waiting work; processing alone needs a person, and names the command."""
    with running_fleet(forgetful.bootstrap, tmp_path, PARTITIONS, **TAKEN_OVER) as fleet:
        fleet.start_all()
        await all_ready(fleet)
        accepted = await finished(forgetful, fleet, 60)
        await fleet.terminate("processing-1")
        accepted += await feed(forgetful.bootstrap, 30, partitions=PARTITIONS)
        await until(lambda: are_distributed(forgetful), "its tasks to wait", fleet=fleet)
        for role in (DISTRIBUTION, STATISTICS):
            await fleet.terminate(f"{role}-1")
        accepted += await feed(forgetful.bootstrap, 30, partitions=PARTITIONS)
        await until(lambda: are_gone(forgetful), "Kafka to delete all offsets", timeout_s=2 * PATIENCE_S)
        for role in ROLES:
            fleet.start(role, **TAKEN_OVER)
        processing = fleet.workers["processing-1"]
        await until(lambda: processing.exit_code is not None, "processing to refuse", fleet=fleet)
        assert EXIT_UNDECIDED == processing.exit_code
        assert "ebs offsets reset --role processing" in processing.log()
        for name, value in {"BROKER": forgetful.bootstrap, "PARTITIONS": str(PARTITIONS)}.items():
            monkeypatch.setenv(f"EBS_{name}", value)
        done = await asyncio.to_thread(
            CliRunner().invoke, cli, ["offsets", "reset", "--role", PROCESSING, "--to", "worked"]
        )
        assert 0 == done.exit_code, done.output
        fleet.revive()
        accepted += await finished(forgetful, fleet, 30)
        async with Follower(forgetful.bootstrap, PARTITIONS) as follower:
            await until(lambda: follower.has_finished_objects(len(accepted)), "all that waited", fleet=fleet)
        assert [None] * len(ROLES) == [one.exit_code for one in fleet.workers.values()]
        assert [] == await differences(forgetful.bootstrap, accepted=accepted)


async def finished(broker: EmbeddedKafka, fleet: Fleet, count: int) -> list[str]:
    """Feed objects and wait until they are finished; returns their ids."""
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, count, partitions=PARTITIONS)
        await until(
            lambda: follower.look(lambda: follower.finished_objects >= set(accepted)), f"{count} objects", fleet=fleet
        )
    return accepted


async def are_distributed(broker: EmbeddedKafka) -> bool:
    """Return whether all objects have been split."""
    return await lag_of(broker.bootstrap, BARE.group(DISTRIBUTION), [BARE.objects], PARTITIONS) == 0


async def are_gone(broker: EmbeddedKafka) -> bool:
    """Return whether no role has a committed offset."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        return not any([await admin.list_consumer_group_offsets(BARE.group(role)) for role in ROLES])
    finally:
        await admin.close()
