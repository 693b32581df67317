"""Topics that are recreated under running workers, and committed offsets that vanish."""

from __future__ import annotations

import asyncio
import re
import time
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.protocol.admin import DeleteGroupsRequest
from checker import differences, read_topics
from feed import feed
from fleet import PATIENT, ROLES, TAKEN_OVER, Fleet, until
from follower import Follower, lag_of
from plain_names import CONTROL, DISTRIBUTION_APP, OBJECTS, PROCESSING_APP, STATISTICS_APP, TASK_EVENTS, TASK_REQUESTS
from system import System
from topics_anew import all_ready, make_anew
from typer.testing import CliRunner

from app.events import ObjectCreated, encode
from app.kafka.cluster import Cluster
from app.kafka.types import NewTopic
from app.names import BARE
from app.streaming.application import EXIT_CONFIGURATION, EXIT_INPUTS_CHANGED, EXIT_UNDECIDED
from ebs.cli import cli

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
REGISTRY = BARE.topics
QUICK = {**PATIENT, "EBS_STALL_TIMEOUT_S": "12"}
"""A look each second."""


@pytest.mark.parametrize("names", [(OBJECTS,), (TASK_REQUESTS, TASK_EVENTS), (CONTROL,)])
async def test_workers_go_on_with_topics_that_were_made_anew(broker: EmbeddedKafka, fleet: Fleet, names) -> None:
    """Within seconds, by a new life; without the mend nobody worked anything any more, and every probe was fine."""
    for role in ROLES:
        fleet.start(role, **QUICK)
    await all_ready(fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        await feed(broker.bootstrap, 40, partitions=PARTITIONS)
        await until(lambda: follower.has_finished_objects(40), "40 objects", fleet=fleet)
    await make_anew(broker.bootstrap, PARTITIONS, *names)
    workers = fleet.workers.values()
    await until(lambda: all(one.exit_code is not None for one in workers), "all to notice", timeout_s=30, fleet=fleet)
    assert [EXIT_INPUTS_CHANGED] * 3 == [one.exit_code for one in workers]
    said = re.compile(f"InputsChanged: topic ({'|'.join(names)}) (is gone|was deleted and recreated)")
    assert all(said.search(one.log()) for one in workers)
    fleet.revive()
    await all_ready(fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, 40, partitions=PARTITIONS)
        await until(
            lambda: follower.look(lambda: follower.finished_objects >= set(accepted)), "40 more objects", fleet=fleet
        )
    topics = await read_topics(broker.bootstrap)
    assert 1 == max(topics.event_ids.values())


@pytest.mark.parametrize("is_made_again", [False, True])
async def test_workers_write_down_again_which_topics_are_this_systems(
    broker: EmbeddedKafka, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, *, is_made_again: bool
) -> None:
    """The topic that says so is deleted, or an empty one has its place: without the mend no worker started again."""
    for role in ROLES:
        fleet.start(role, **TAKEN_OVER)
    await all_ready(fleet)
    workers = fleet.workers.values()
    async with Cluster(broker.bootstrap).admin("test") as admin:
        await admin.delete_topics([REGISTRY])
        if is_made_again:
            await until(lambda: _is_made(admin), "an empty one")
    text = f"topic {REGISTRY} was deleted: it is there again"
    await until(lambda: all(text in one.log() for one in workers), "workers to notice", timeout_s=40, fleet=fleet)
    for worker in workers:
        fleet.kill(worker.name)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, 40, partitions=PARTITIONS)
        fleet.revive()
        await all_ready(fleet)
        await until(lambda: _are_finished(follower, accepted), "40 objects", fleet=fleet)
    assert not any(one.exit_code for one in workers)
    monkeypatch.setenv("EBS_BROKER", broker.bootstrap)
    monkeypatch.setenv("EBS_PARTITIONS", str(PARTITIONS))
    told = await asyncio.to_thread(CliRunner().invoke, cli, ["doctor", "--api", "http://127.0.0.1:1"])
    assert "nothing says" not in told.stdout


async def _is_made(admin: AIOKafkaAdminClient) -> bool:
    answer = await admin.create_topics([NewTopic(REGISTRY, 1, 1, topic_configs={"cleanup.policy": "compact"})])
    return answer.topic_errors[0][1] == 0


async def test_partitions_that_are_added_are_refused(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Records name their partition: the workers end, and do not start before the counts are right again."""
    worker = fleet.start("distribution", **QUICK)
    await all_ready(fleet)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.create_partitions({OBJECTS: NewPartitions(PARTITIONS + 1)})
    await admin.close()
    await until(lambda: worker.exit_code is not None, "it to notice", timeout_s=30, fleet=fleet)
    assert "topic objects has 5 partitions now, it had 4" in worker.log()
    fleet.revive()
    await until(lambda: worker.exit_code is not None, "it to refuse", fleet=fleet)
    assert EXIT_CONFIGURATION == worker.exit_code


async def test_offsets_that_vanished_run_nothing_again(broker: EmbeddedKafka, fleet: Fleet, monkeypatch) -> None:
    """Distribution and statistics know from their tables; processing refuses until a person has decided."""
    for role in ROLES:
        fleet.start(role, **PATIENT)
    accepted = await _feed_and_wait(broker, fleet, 60)
    for role in ROLES:
        await fleet.terminate(f"{role}-1")
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    node_id = await admin.find_coordinator(PROCESSING_APP)
    answer = await admin._send_request(DeleteGroupsRequest([DISTRIBUTION_APP, PROCESSING_APP, STATISTICS_APP]), node_id)
    assert [0] * 3 == [code for _, code in answer.results]
    await admin.close()
    for role in ROLES:
        fleet.start(role, **TAKEN_OVER)
    worker = fleet.workers["processing-1"]
    await until(lambda: worker.exit_code is not None, "processing to refuse", fleet=fleet)
    assert EXIT_UNDECIDED == worker.exit_code
    assert "ebs offsets reset --role processing" in worker.log()
    waiting = await feed(broker.bootstrap, 30, partitions=PARTITIONS)
    lag = partial(lag_of, broker.bootstrap, DISTRIBUTION_APP, [OBJECTS], PARTITIONS)
    await until(lambda: _is_zero(lag()), "distribution to go on", fleet=fleet)
    for name, value in {"BROKER": broker.bootstrap, "PARTITIONS": str(PARTITIONS), "SESSION_TIMEOUT_S": "8"}.items():
        monkeypatch.setenv(f"EBS_{name}", value)
    run = CliRunner().invoke
    told = await asyncio.to_thread(run, cli, ["doctor", "--api", "http://127.0.0.1:1"])
    assert "it has worked task-requests" in told.stdout
    done = await asyncio.to_thread(run, cli, ["offsets", "reset", "--role", "processing", "--to", "worked"])
    assert 0 == done.exit_code, done.exception
    assert "offsets set" in done.stdout
    fleet.revive()
    accepted += await _feed_and_wait(broker, fleet, 60)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        await until(lambda: _are_finished(follower, waiting), "what waited", fleet=fleet, reviving=True)
    accepted += waiting
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, found


async def test_api_goes_on_with_topics_that_were_made_anew(broker: EmbeddedKafka, tmp_path: Path) -> None:
    """What it accepts then is worked, and its view shows it."""
    async with System(broker, tmp_path, PARTITIONS, EBS_STALL_TIMEOUT_S="12") as system:
        fleet, client = system.fleet, system.api.client
        assert 202 == client.post("/api/objects", json={}).status_code
        await make_anew(broker.bootstrap, PARTITIONS, OBJECTS, TASK_REQUESTS)
        await until(lambda: fleet.revive() != [], "a worker to notice", timeout_s=30, fleet=fleet)
        answer = client.post("/api/objects", json={})
        assert 202 == answer.status_code
        where = f"/api/objects/{answer.json()['id']}"
        await until(lambda: _is_finished(client, where), "the object to be finished", fleet=fleet, reviving=True)
    assert system.api.process.poll() is not None  # killed by the test, not before
    assert "the topics at" in system.api.log


async def test_one_id_is_one_object_whatever_partitioner_its_producers_use(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Each object twice, in two partitions that may both be wrong, some with stamps of the future."""
    for role in ROLES:
        fleet.start(role, **PATIENT)
    ids = [f"{'öb'[n % 2]}-{n}" for n in range(60)]
    now_ms = time.time_ns() // 1_000_000
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            for number, object_id in enumerate(ids * 2):
                ahead_ms = 3_000_000 if number % 7 == 0 else 0
                event = ObjectCreated(object_id=object_id, name="n", content="c", at_ms=now_ms + 9 * ahead_ms)
                stamps = {"partition": number * 7 // 5 % PARTITIONS, "timestamp_ms": now_ms + ahead_ms}
                await producer.send(OBJECTS, encode(event), object_id.encode(), **stamps)
        await until(lambda: _are_finished(follower, ids), "the objects", fleet=fleet)
    found = await differences(broker.bootstrap, accepted=ids)
    assert [] == found, found
    assert (await read_topics(broker.bootstrap)).moved_count > len(ids)


def _is_finished(client: httpx.Client, path: str) -> bool:
    answer = client.get(path)
    return answer.status_code == httpx.codes.OK and answer.json()["state"] == "FINISHED"


async def _feed_and_wait(broker: EmbeddedKafka, fleet: Fleet, count: int) -> list[str]:
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, count, partitions=PARTITIONS)
        await until(
            lambda: follower.look(lambda: follower.finished_objects >= set(accepted)), f"{count} objects", fleet=fleet
        )
    return accepted


async def _is_zero(number: Awaitable[int]) -> bool:
    return await number == 0


async def _are_finished(follower: Follower, object_ids: list[str]) -> bool:
    return await follower.look(lambda: follower.finished_objects >= set(object_ids))
