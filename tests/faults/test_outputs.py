"""What functions produce, through kills and a freeze of the workers: each object and each record exactly once."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from api_process import PATIENCE_S
from broker_site import PARTITIONS
from chain_project import CHAINED, RECORDS, TOPIC
from checker import differences, read_all, read_topics
from feed import feed
from fleet import PATIENT, ROLES, TAKEN_OVER, Fleet, owned, said, until
from follower import Follower
from typer.testing import CliRunner
from worker_pages import read_page

from app.kafka.cluster import Cluster
from app.kafka.partitioner import partition_of_key
from app.kafka.types import NewTopic
from app.settings.settings import load
from app.topics.output_topics import make_output_topics
from ebs.cli import cli

if TYPE_CHECKING:
    from fleet import Worker

    from ebs.local.embedded_kafka import EmbeddedKafka

LINKS = int(os.environ.get("CHAIN_LINKS", "200"))
OBJECTS = int(os.environ.get("SINK_OBJECTS", "600"))
"""Each sends CHAIN_RECORDS records (10)."""
SINK_PARTITIONS = 6
"""Others than our topics have: their partitions have nothing to do with ours."""


async def start(broker: EmbeddedKafka, fleet: Fleet, **patience: str) -> None:
    """Make the user's topic, and start a worker of each role and two that run functions."""
    made = load(broker=broker.bootstrap, partitions=SINK_PARTITIONS, output_topics=(TOPIC,))
    await make_output_topics(Cluster(broker.bootstrap), made)
    for role in ROLES:
        fleet.start(role, f"{role}-1", **(patience | CHAINED))
    fleet.start("processing", "processing-2", **(patience | CHAINED))
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)


async def sunk(broker: EmbeddedKafka) -> list[Any]:
    """Return the records of the user's topic, as readers of committed records see them."""
    return [record async for record in read_all(broker.bootstrap, [TOPIC])]


async def test_a_chain_has_exactly_as_many_links_as_it_should(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Each link submits the next one; a worker that runs them is killed twice, and one of each other role once."""
    await start(broker, fleet, **PATIENT, EBS_MAX_DEPTH=str(LINKS), EBS_COMMIT_INTERVAL_MS="10")
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        (head,) = await feed(broker.bootstrap, 1, partitions=PARTITIONS, kind="link", name=str(LINKS))
        for part, name in enumerate(("processing-1", "distribution-1", "processing-2", "statistics-1"), start=1):
            await until(
                lambda part=part: follower.has_finished_tasks(part * LINKS // 5),
                f"{part * LINKS // 5} links",
                fleet=fleet,
                reviving=True,
                timeout_s=2 * PATIENCE_S,
            )
            fleet.kill(name)
        await until(
            lambda: follower.has_finished_objects(LINKS),
            "the end of the chain",
            fleet=fleet,
            reviving=True,
            timeout_s=2 * PATIENCE_S,
        )
    topics = await read_topics(broker.bootstrap)
    assert LINKS == topics.object_record_count == len(topics.objects)
    by_depth = {one.get("depth", 0): one for one in topics.objects.values()}
    assert list(range(LINKS)) == sorted(by_depth)
    assert head == by_depth[0]["object_id"]
    for depth in range(1, LINKS):
        above = by_depth[depth - 1]["object_id"]
        assert {"object_id": above, "task_id": f"{above}-0"} == by_depth[depth]["parent"]
        (end,) = topics.ends[by_depth[depth]["object_id"]]
        assert above == end["parent"]["object_id"]
    assert [] == await differences(broker.bootstrap, accepted=[head], task_count=1)


async def test_each_record_that_is_sent_is_there_once(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """One worker is frozen until the other has its partitions, and thawed; then each is killed once."""
    await start(broker, fleet, **TAKEN_OVER)
    first, second = (fleet.workers[f"processing-{number}"] for number in (1, 2))
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, OBJECTS // 2, partitions=PARTITIONS, kind="sink", rate_per_s=200)
        await until(lambda: follower.has_finished_tasks(OBJECTS // 10), "some tasks", fleet=fleet, reviving=True)
        fleet.freeze(first.name)
        await until(lambda: owned(second) == list(range(PARTITIONS)), "a take-over", fleet=fleet, reviving=True)
        fleet.thaw(first.name)
        accepted += await feed(broker.bootstrap, OBJECTS // 2, partitions=PARTITIONS, kind="sink", rate_per_s=200)
        for worker in (second, first):
            fleet.kill(worker.name)
            await until(lambda: said([first, second], "are ready: "), "a revival", fleet=fleet, reviving=True)
        await until(
            lambda: follower.has_finished_objects(OBJECTS),
            "all objects",
            fleet=fleet,
            reviving=True,
            timeout_s=2 * PATIENCE_S,
        )
    records = await sunk(broker)
    counts = Counter(record.key.decode() for record in records)
    assert {f"{one}/{number}" for one in accepted for number in range(RECORDS)} == set(counts)
    assert {1} == set(counts.values())
    assert all(partition_of_key(record.key, SINK_PARTITIONS) == record.partition for record in records)
    assert [] == await differences(broker.bootstrap, accepted=accepted, task_count=1)


@pytest.mark.parametrize("partitions", [2, SINK_PARTITIONS, 9])
async def test_tasks_wait_while_their_topic_is_gone(
    broker: EmbeddedKafka, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, partitions: int
) -> None:
    """Other tasks go on, and those that wait go on by themselves when somebody has made the topic again."""
    await start(broker, fleet, **TAKEN_OVER, EBS_STALL_TIMEOUT_S="12")
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        before = await feed(broker.bootstrap, 20, partitions=PARTITIONS, kind="sink")
        await until(lambda: follower.has_finished_objects(len(before)), "the first objects", fleet=fleet)
        async with Cluster(broker.bootstrap).admin("test") as admin:
            await admin.delete_topics([TOPIC])
            held_up = await feed(broker.bootstrap, OBJECTS // 10, partitions=PARTITIONS, kind="sink")
            both = [fleet.workers[f"processing-{number}"] for number in (1, 2)]
            await until(
                lambda: all(is_without_topic(one) for one in both), "both to say so", fleet=fleet, reviving=True
            )
            (head,) = await feed(broker.bootstrap, 1, partitions=PARTITIONS, kind="link", name="3")
            await until(lambda: follower.has_finished_objects(len(before) + 3), "other tasks", fleet=fleet)
            assert f"context.send: the topic {TOPIC} does not exist: make it" in both[0].log() + both[1].log()
            for name, value in {"BROKER": broker.bootstrap, "OUTPUT_TOPICS": TOPIC}.items():
                monkeypatch.setenv(f"EBS_{name}", value)
            told = await asyncio.to_thread(CliRunner().invoke, cli, ["doctor", "--json", "--api", "http://127.0.0.1:1"])
            assert f"--create --topic {TOPIC}" in told.stdout
            assert not any(one.exit_code for one in both)
            await admin.create_topics([NewTopic(TOPIC, partitions, 1)])
        await until(
            lambda: follower.has_finished_objects(len(before) + 3 + len(held_up)),
            "the tasks that waited",
            fleet=fleet,
            reviving=True,
            timeout_s=2 * PATIENCE_S,
        )
    counts = Counter(record.key.decode() for record in await sunk(broker))
    assert dict.fromkeys((f"{one}/{number}" for one in held_up for number in range(RECORDS)), 1) == counts
    assert [] == await differences(broker.bootstrap, accepted=[*before, *held_up, head], task_count=1)


def is_without_topic(worker: Worker) -> bool:
    """Return whether a worker is up and says that the topic does not exist."""
    page = read_page(worker, "/readyz")
    return page.status == HTTPStatus.SERVICE_UNAVAILABLE and f"topic {TOPIC} of EBS_OUTPUT_TOPICS" in page.text
