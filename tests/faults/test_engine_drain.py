"""A worker drained by control, on a real broker: its partitions go to the others, and come back."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from checker import differences, read_all
from fault_handlers import PLANNED
from feed import feed
from fleet import PATIENT, TAKEN_OVER, owned, until
from follower import Follower
from plain_names import CONTROL, TASK_EVENTS

if TYPE_CHECKING:
    from fleet import Fleet, Worker

    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 100
DRAIN = b'{"type":"DRAIN","at_ms":1}'


async def rule(broker: EmbeddedKafka, key: bytes, value: bytes | None) -> None:
    """Write a command to `control`, or revoke it."""
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all") as producer:
        await producer.send_and_wait(CONTROL, value, key, partition=0)


async def start_pair(fleet: Fleet, **env: str) -> tuple[Worker, Worker]:
    """Start two workers that share the partitions, and one of each other role."""
    fleet.start("distribution", EBS_BACKOFF_S="1", **PATIENT)
    fleet.start("statistics", EBS_BACKOFF_S="1", **PATIENT)
    options = PATIENT | PLANNED | env | {"EBS_CONCURRENCY": "8", "FAULT_HANDLER_RUNS": str(fleet.directory / "runs")}
    first, second = (
        fleet.start("processing", name, EBS_WORKER_ID=name, **options) for name in ("processing-1", "processing-2")
    )
    await until(lambda: len(owned(first)) == len(owned(second)) == PARTITIONS // 2, "two shares", fleet=fleet)
    return first, second


async def has_begun(follower: Follower) -> bool:
    """Look, and return whether both workers have started tasks."""
    return await follower.look(lambda: len(follower.starters) == 2)


async def test_drained_worker_hands_over_its_partitions(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """All tasks finish on the other worker, none runs twice or is lost; undone, both work again."""
    first, second = await start_pair(fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, OBJECTS, partitions=PARTITIONS, name="slow 0.2")
        await until(lambda: has_begun(follower), "both to work", fleet=fleet)
        await rule(broker, b"drain:processing-1", DRAIN)
        await until(lambda: (owned(first), len(owned(second))) == ([], PARTITIONS), "the handing over", fleet=fleet)
        handed_over_at_ms = time.time_ns() // 1_000_000
        accepted += await feed(broker.bootstrap, OBJECTS // 4, partitions=PARTITIONS, name="slow 0.2")
        await until(lambda: follower.has_finished_objects(len(accepted)), "all objects", fleet=fleet)
        drained_until_ms = time.time_ns() // 1_000_000
        await rule(broker, b"drain:processing-1", None)
        await until(lambda: len(owned(first)) == len(owned(second)) == PARTITIONS // 2, "two shares", fleet=fleet)
        accepted += await feed(broker.bootstrap, OBJECTS // 4, partitions=PARTITIONS, name="slow 0.2")
        await until(lambda: follower.has_finished_objects(len(accepted)), "the others", fleet=fleet)
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, found
    assert {1} == set(Counter((fleet.directory / "runs").read_text().splitlines()).values())
    starts = [
        (event["worker"], event["at_ms"])
        async for record in read_all(broker.bootstrap, [TASK_EVENTS])
        if (event := json.loads(record.value))["type"] == "TASK_STARTED"
    ]
    assert {"processing-1", "processing-2"} == {name for name, at_ms in starts if at_ms < handed_over_at_ms}
    assert {"processing-2"} == {name for name, at_ms in starts if handed_over_at_ms <= at_ms <= drained_until_ms}
    assert {"processing-1", "processing-2"} == {name for name, at_ms in starts if at_ms > drained_until_ms}
    assert [None, None] == [first.exit_code, second.exit_code]


async def test_drain_outlives_its_worker(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Killed and started again it still stands aside, so its tasks never wait for it."""
    first, second = await start_pair(fleet, **TAKEN_OVER)
    await rule(broker, b"drain:processing-1", DRAIN)
    await until(lambda: (owned(first), len(owned(second))) == ([], PARTITIONS), "the handing over", fleet=fleet)
    fleet.kill("processing-1")
    lives = first.log().count("drained: running tasks")
    fleet.revive()
    await until(lambda: first.log().count("drained: running tasks") > lives, "the next life to hear of it", fleet=fleet)
    await until(lambda: (owned(first), len(owned(second))) == ([], PARTITIONS), "the handing over", fleet=fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, 20, partitions=PARTITIONS)
        await until(lambda: follower.has_finished_objects(20), "all objects", fleet=fleet)
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, found
