"""Control and heartbeats on a real broker: what a worker hears, what it says, and what outages do to both."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from api_process import PATIENCE_S
from fleet import PATIENT, running_fleet, until
from plain_names import WORKERS

from agents.engine.control_feed import ControlFeed
from agents.heartbeat import Heart, worker_identity_of
from app.kafka.cluster import Cluster
from app.rules.commands import Pause, encode_command
from app.rules.control import ControlState
from app.rules.worker_heartbeats import WorkerFigures, decode_heartbeat
from app.topics.catalogue import TopicSpec
from app.topics.making import ensure_topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ebs.local.embedded_kafka import EmbeddedKafka

PAUSE = encode_command(Pause(1, "why"))


async def make_topic(kafka: EmbeddedKafka) -> str:
    """Make a compacted topic of one partition; returns its name."""
    name = f"control-{uuid4().hex[:8]}"
    await ensure_topics(Cluster(kafka.bootstrap), [TopicSpec(name, 1, 1, {"cleanup.policy": "compact"})])
    return name


@asynccontextmanager
async def producer_of(kafka: EmbeddedKafka, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """Yield a producer."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, **options) as producer:
        yield producer


class Listener:
    """A feed at work, and after each change whether all is paused."""

    def __init__(self, kafka: EmbeddedKafka, topic: str) -> None:
        self.state = ControlState()
        self.heard: list[bool] = []
        cluster = Cluster(kafka.bootstrap)
        self.feed = ControlFeed(cluster, self.state, topic, on_change=self._on_change)

    def _on_change(self) -> None:
        self.heard.append(self.state.is_paused("mail"))

    async def __aenter__(self) -> Self:
        self.feed.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.feed.stop()


async def test_pause_is_known_before_the_first_task(kafka):
    """A worker that starts after the pause has it when it has caught up, as one change, without the history."""
    topic = await make_topic(kafka)
    async with producer_of(kafka) as producer:
        for value in (PAUSE, None):
            await producer.send_and_wait(topic, value, b"pause")
        # More than one fetch holds, so that the pause comes with a later one.
        many = [await producer.send(topic, b"x" * 10_000, b"unknown-%d" % number) for number in range(300)]
        await asyncio.gather(*many)
        await producer.send_and_wait(topic, PAUSE, b"pause")
    async with Listener(kafka, topic) as listener:
        await asyncio.wait_for(listener.feed.caught_up(), PATIENCE_S)
        assert [True] == listener.heard


async def test_empty_topic_is_caught_up_with_at_once(kafka):
    """A system that nobody has ever controlled starts without delay, and without a change."""
    async with Listener(kafka, await make_topic(kafka)) as listener:
        await asyncio.wait_for(listener.feed.caught_up(), PATIENCE_S)
        assert [] == listener.heard


async def test_news_come_within_a_moment_and_repetitions_are_none(kafka):
    """Each change is told once, and within a second: the quickest of several, as a busy machine may hold up any."""
    topic = await make_topic(kafka)
    async with producer_of(kafka) as producer, Listener(kafka, topic) as listener:
        await listener.feed.caught_up()
        heard: list[bool] = []
        took_s = []
        for value in (PAUSE, None) * 3:
            heard.append(value is PAUSE)
            await producer.send_and_wait(topic, b"no json", b"unknown")
            await producer.send_and_wait(topic, value, b"pause")
            took_s.append(await until(lambda: listener.heard == heard, "the change"))
            await producer.send_and_wait(topic, value, b"pause")
        await producer.send_and_wait(topic, PAUSE, b"pause:other")
        await until(lambda: listener.state.is_paused("other"), "the last change")
        assert [*heard, False] == listener.heard
        assert min(took_s) < 1


async def test_uncommitted_commands_are_not_heard(kafka):
    """Of an aborted transaction nothing is in force; a start waits until an open one is decided."""
    topic = await make_topic(kafka)
    async with producer_of(kafka, transactional_id=uuid4().hex) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, PAUSE, b"pause")
        async with Listener(kafka, topic) as listener:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(listener.feed.caught_up(), 1)
            await producer.abort_transaction()
            await asyncio.wait_for(listener.feed.caught_up(), PATIENCE_S)
            assert [] == listener.heard


async def test_outage_changes_nothing_and_is_survived(kafka):
    """While the broker is dead the pause stays in force; what comes after its return is heard."""
    topic = await make_topic(kafka)
    async with producer_of(kafka) as producer:
        await producer.send_and_wait(topic, PAUSE, b"pause")
    async with Listener(kafka, topic) as listener:
        await listener.feed.caught_up()
        kafka.kill()
        await kafka.start()
        assert listener.state.is_paused("mail")
        async with producer_of(kafka) as producer:
            await producer.send_and_wait(topic, None, b"pause")
        await until(lambda: not listener.state.is_paused("mail"), "the resume")
        assert [True, False] == listener.heard


async def test_start_before_the_broker_waits_for_it(kafka):
    """Nothing is caught up with as long as nobody can say what is in force."""
    topic = await make_topic(kafka)
    async with producer_of(kafka) as producer:
        await producer.send_and_wait(topic, PAUSE, b"pause")
    kafka.kill()
    async with Listener(kafka, topic) as listener:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(listener.feed.caught_up(), 1)
        await kafka.start()
        await asyncio.wait_for(listener.feed.caught_up(), PATIENCE_S)
        assert listener.state.is_paused("mail")


class Topic:
    """What is on a topic of one partition, read as far as it goes."""

    def __init__(self, kafka: EmbeddedKafka, name: str) -> None:
        self._kafka = kafka
        self._partition = TopicPartition(name, 0)

    async def read(self) -> list[Any]:
        """Return all records that there are."""
        records: list[Any] = []
        async with AIOKafkaConsumer(bootstrap_servers=self._kafka.bootstrap, auto_offset_reset="earliest") as consumer:
            consumer.assign([self._partition])
            end = (await consumer.end_offsets([self._partition]))[self._partition]
            await consumer.seek_to_beginning(self._partition)
            while await consumer.position(self._partition) < end:
                records += (await consumer.getmany(timeout_ms=200)).get(self._partition, [])
        return records

    async def has(self, count: int) -> bool:
        """Return whether so many records are there."""
        return len(await self.read()) >= count


def start_beating(kafka: EmbeddedKafka, topic: str) -> tuple[Heart, asyncio.Task[None]]:
    """Let a worker's heart beat ten times a second."""
    identity = worker_identity_of("processing-1", "processing")
    cluster = Cluster(kafka.bootstrap)
    heart = Heart(cluster, identity, lambda: WorkerFigures([0, 2], in_flight=3), topic=topic, every_s=0.1)
    return heart, asyncio.create_task(heart.run())


async def stop(task: asyncio.Task[None]) -> None:
    """Cancel a task as Faust does when the worker stops, and wait for its end."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_worker_beats_and_says_goodbye(kafka):
    """Each heartbeat tells identity and figures under one key; the last word is a tombstone."""
    topic = Topic(kafka, await make_topic(kafka))
    _, beating = start_beating(kafka, topic._partition.topic)
    await until(lambda: topic.has(3), "three heartbeats")
    await stop(beating)
    *beats, last = await topic.read()
    assert {b"processing/processing-1"} == {record.key for record in [*beats, last]}
    assert last.value is None
    told = [decode_heartbeat(record.value) for record in beats]
    assert {("processing-1", "processing", (0, 2), 3, os.getpid())} == {
        (one.worker, one.role, tuple(one.partitions), one.in_flight, one.pid) for one in told
    }
    assert sorted(one.at_ms for one in told) == [one.at_ms for one in told]


async def test_figures_that_fail_cost_a_heartbeat_only(kafka, caplog):
    """An error in what a worker tells of itself is logged; the next heartbeat comes."""
    topic = Topic(kafka, await make_topic(kafka))
    failures = iter([ZeroDivisionError("oops")])

    def figures() -> WorkerFigures:
        for failure in failures:
            raise failure
        return WorkerFigures()

    identity = worker_identity_of("w", "processing")
    heart = Heart(Cluster(kafka.bootstrap), identity, figures, topic=topic._partition.topic, every_s=0.05)
    beating = asyncio.create_task(heart.run())
    await until(lambda: topic.has(1), "a heartbeat")
    await stop(beating)
    assert "oops" in caplog.text


async def test_heart_survives_a_broker_that_dies(kafka, caplog):
    """Without a broker it goes on trying and says so once; with one again it is heard again."""
    topic = Topic(kafka, await make_topic(kafka))
    heart, beating = start_beating(kafka, topic._partition.topic)
    await until(lambda: topic.has(1) if heart.is_heard else False, "the first heartbeat")
    caplog.clear()  # a slow start is no outage
    kafka.kill()
    await until(lambda: not heart.is_heard, "the silence")
    assert not beating.done()
    await kafka.start()
    await until(lambda: heart.is_heard, "the next heartbeat")
    assert 1 == caplog.text.count("cannot send heartbeats to the Kafka broker")
    await stop(beating)


async def test_worker_that_stops_does_not_wait_for_a_frozen_broker(kafka):
    """The goodbye is given up within seconds."""
    topic = await make_topic(kafka)
    heart, beating = start_beating(kafka, topic)
    await until(lambda: heart.is_heard, "the first heartbeat")
    kafka.pause()
    beating.cancel()
    assert ({beating}, set()) == await asyncio.wait([beating], timeout=30)


async def test_app_beats_from_start_to_end(kafka, tmp_path):
    """A real worker with a heartbeat attached tells role and partitions, and is gone from the topic when it stops."""
    support = Path(__file__).parents[1] / "support"
    path = os.pathsep.join([str(support.parents[1]), str(support)])
    workers = Topic(kafka, WORKERS)

    async def partitions() -> list[int]:
        told = decode_heartbeat((await workers.read())[-1].value)
        return told.partitions if told else []

    with running_fleet(kafka.bootstrap, tmp_path, 4, **PATIENT, EBS_WORKER_ID="worker-7") as fleet:
        worker = fleet.start("distribution", module="beating_worker", PYTHONPATH=path)
        await until(lambda: "are ready: " in worker.log(), "the worker", fleet=fleet)

        async def owns_all() -> bool:
            return await partitions() == [0, 1, 2, 3]

        await until(owns_all, "a heartbeat with partitions", fleet=fleet)
        await fleet.terminate("distribution-1", expected_code=0)
        records = await workers.read()
    assert (b"distribution/worker-7", None) == (records[-1].key, records[-1].value)
    assert {1} == {record.timestamp_type for record in records}  # LogAppendTime: the broker's clock
