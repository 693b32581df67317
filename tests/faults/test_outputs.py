"""What functions produce, through kills and a freeze of the workers: each object and each record exactly once."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from api_process import PATIENCE_S
from broker_site import PARTITIONS
from chain_project import CHAINED, RECORDS, TOPIC
from checker import differences, read_all, read_topics
from feed import feed
from fleet import PATIENT, ROLES, TAKEN_OVER, Fleet, owned, said, until
from follower import Follower

from app.kafka.cluster import Cluster
from app.kafka.partitioner import partition_of_key
from app.settings.settings import load
from app.topics.output_topics import make_output_topics

if TYPE_CHECKING:
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


async def test_a_worker_without_the_topic_it_sends_to_says_so(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """It ends with exit code 1, instead of failing at the first record."""
    worker = fleet.start("processing", **CHAINED)
    await until(lambda: worker.exit_code is not None, "the worker to end", fleet=fleet)
    assert 1 == worker.exit_code
    assert f"the topic {TOPIC} does not exist at {broker.bootstrap}" in worker.log()
    assert f"--create --topic {TOPIC}" in worker.log()
