"""Waiting for a broker, and making and checking topics, against the real one."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from api_process import PATIENCE_S
from app.settings.settings.settings import load
from app.topics.catalogue.catalogue import TopicSpec, catalogue
from app.topics.catalogue.making import ensure_topics, wait_for_broker
from ebs.local.ports import free_port

from app.errors import BrokerError, BrokerUnavailable, TopicMismatch
from ebs.local.embedded_kafka import EmbeddedKafka


def some_topics(count: int = 3, **changes) -> list[TopicSpec]:
    """Return specs under names that no other test uses."""
    stem = uuid4().hex[:8]
    spec = replace(TopicSpec("", 4, 1, {"cleanup.policy": "delete"}), **changes)
    return [replace(spec, name=f"{stem}-{number}") for number in range(count)]


async def make(kafka: EmbeddedKafka, name: str, partition_count: int, **config: str) -> None:
    """Make a topic behind the application's back."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, partition_count, 1, topic_configs=config)])
    await admin.close()


async def topic_names(kafka: EmbeddedKafka) -> set[str]:
    """Return all topics that there are."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    names = set(await admin.list_topics())
    await admin.close()
    return names


def test_whole_catalogue_is_made_and_then_found_right(kafka):
    """The first call makes every topic of the system as specified; the second finds them and makes none."""
    stem = uuid4().hex[:8]  # tests of the whole system use the real names on this broker
    specs = [replace(spec, name=f"{stem}-{spec.name}") for spec in catalogue(load(partitions=3))]

    async def scenario():
        return await ensure_topics(kafka.bootstrap, specs), await ensure_topics(kafka.bootstrap, specs)

    first, second = asyncio.run(scenario())
    assert [spec.name for spec in specs] == [report.shape.name for report in first]
    assert [spec.partition_count for spec in specs] == [report.shape.partition_count for report in first]
    assert [set(spec.config["cleanup.policy"].split(",")) for spec in specs] == [
        report.shape.cleanup_policy for report in first
    ]
    assert {True} == {report.made for report in first}
    assert {False} == {report.made for report in second}


def test_topics_take_records_at_once(kafka, caplog):
    """When it returns, every leader takes records: no producer has to try again."""
    specs = some_topics(count=10, partition_count=40)  # without the wait, dozens of these would refuse

    async def scenario() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
            await ensure_topics(kafka.bootstrap, specs)
            for pending in [await producer.send(s.name, b"x", partition=p) for s in reversed(specs) for p in range(40)]:
                await pending

    asyncio.run(scenario())
    assert [] == [record.getMessage() for record in caplog.records if "NotLeader" in record.getMessage()]


def test_many_processes_may_make_the_same_topics(kafka):
    """Workers that start together all succeed, and each topic is made by exactly one of them."""
    specs = some_topics()

    async def scenario():
        return await asyncio.gather(*[ensure_topics(kafka.bootstrap, specs) for _ in range(6)])

    reports = asyncio.run(scenario())
    assert [1, 1, 1] == [sum(report[number].made for report in reports) for number in range(len(specs))]


def test_wrong_partition_count_is_refused_and_nothing_is_made(kafka):
    """A topic with another partition count is one sentence with the fix, and the missing topics stay missing."""
    specs = some_topics(partition_count=8)

    async def scenario() -> set[str]:
        await make(kafka, specs[1].name, 4)
        with pytest.raises(TopicMismatch) as refusal:
            await ensure_topics(kafka.bootstrap, specs)
        message = str(refusal.value)
        assert f"topic {specs[1].name} has 4 partitions, this application is set to 8: set EBS_PARTITIONS=4" in message
        assert "--delete" not in message  # it is not known who made it
        return await topic_names(kafka)

    assert {specs[1].name} == asyncio.run(scenario()) & {spec.name for spec in specs}


def test_wrong_cleanup_policy_is_refused(kafka):
    """A changelog that would be deleted by age is refused: its rows would vanish."""
    (spec,) = some_topics(count=1, config={"cleanup.policy": "compact"})

    async def scenario() -> None:
        await make(kafka, spec.name, 4, **{"cleanup.policy": "delete"})
        await ensure_topics(kafka.bootstrap, [spec])

    with pytest.raises(
        TopicMismatch, match=rf"topic {spec.name} has cleanup.policy=delete, this application needs comp"
    ):
        asyncio.run(scenario())


def test_setting_that_the_broker_refuses_is_an_error_not_a_loop(kafka):
    """What the broker says to an impossible topic is passed on."""
    (spec,) = some_topics(count=1, config={"retention.ms": "soon"})
    with pytest.raises(BrokerError, match=rf"topic {spec.name}: .*retention.ms"):
        asyncio.run(ensure_topics(kafka.bootstrap, [spec]))


def test_too_few_brokers_are_waited_for(kafka):
    """Brokers of a cluster come up one by one; the wait says what it waits for and which setting would end it."""
    specs = some_topics(count=1, replication_factor=3)
    said: list[str] = []
    with pytest.raises(BrokerUnavailable, match="EBS_REPLICATION_FACTOR"):
        asyncio.run(ensure_topics(kafka.bootstrap, specs, timeout_s=5, say=said.append))
    assert said
    assert "waiting for more brokers" in said[0]


def test_waiting_starts_before_the_broker_does(tmp_path, caplog):
    """A process may start first: it says that it waits, without a flood from the client library, and then works."""
    caplog.set_level(logging.INFO)
    said: list[str] = []

    async def scenario() -> None:
        broker = EmbeddedKafka(tmp_path, port=0)
        waiting = asyncio.create_task(ensure_topics(broker.bootstrap, some_topics(), say=said.append))
        await broker.start()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await waiting
        finally:
            await broker.stop()
        assert f"waiting for the Kafka broker at {broker.bootstrap} (refused)" == said[0]
        assert f"the Kafka broker at {broker.bootstrap} answers" in said

    asyncio.run(scenario())
    assert [] == [record for record in caplog.records if record.name.startswith("aiokafka")]


def test_waiting_ends_with_its_time_limit():
    """With a time limit, an absent broker is one sentence that names the address and the fix."""
    bootstrap = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerUnavailable, match=rf"no Kafka broker at {bootstrap} after 0.2 s \(refused\).*EBS_BROKER"):
        asyncio.run(wait_for_broker(bootstrap, timeout_s=0.2, say=lambda _message: None))


def test_any_of_several_bootstrap_servers_will_do(kafka):
    """One address that answers is enough."""
    asyncio.run(wait_for_broker(f"127.0.0.1:{free_port()},{kafka.bootstrap}", timeout_s=PATIENCE_S))
