"""`ebs doctor` on a real broker where everything is wrong that can be."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import OffsetAndMetadata
from plain_names import DISTRIBUTION_APP, OBJECTS, WORKERS
from typer.testing import CliRunner

from app.kafka.cluster import Cluster
from app.rules.worker_heartbeats import WorkerFigures, WorkerIdentity, heartbeat_of
from app.settings.settings import PREFIX, Settings
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics
from app.topics.registry import TopicRegistry
from ebs.cli import cli
from ebs.local.embedded_kafka import EmbeddedKafka

BROKER = """
transaction.max.timeout.ms=5000
group.max.session.timeout.ms=9000
transaction.abort.timed.out.transaction.cleanup.interval.ms=60000
offsets.retention.minutes=60
auto.create.topics.enable=true
"""
SEEDED = {
    "task-events": {"cleanup.policy": "compact"},
    "task-requests": {"retention.ms": "3600000"},
    "dead-letters": {"retention.ms": "60000"},
    "workers": {"message.timestamp.type": "CreateTime"},
    "ebs-statistics-ledger-changelog": {"cleanup.policy": "delete"},
    "ebs-statistics-windows-changelog": {"min.cleanable.dirty.ratio": "0.95"},
    "objects": {"max.message.bytes": "1000", "unclean.leader.election.enable": "true"},
}
NAMED = {
    ("error", "control", "does not exist"),
    ("error", "dead-letters", "it has 3 partitions"),
    ("error", "task-events", "cleanup.policy=compact"),
    ("error", "task-requests", "it is kept for 60 minutes"),
    ("warning", "dead-letters", "not for ever"),
    ("warning", "workers", "message.timestamp.type=CreateTime"),
    ("error", "ebs-statistics-ledger-changelog", "cleanup.policy=delete"),
    ("warning", "ebs-statistics-windows-changelog", "min.cleanable.dirty.ratio=0.95"),
    ("warning", "objects", "max.message.bytes=1000"),
    ("warning", "objects", "unclean.leader.election.enable=true"),
    ("error", "EBS_TRANSACTION_TIMEOUT_S", "the broker allows 5 s"),
    ("error", "EBS_PUBLISH_TIMEOUT_S", "the broker allows 5 s"),
    ("warning", "transactions", "every 60 s only"),
    ("error", "EBS_SESSION_TIMEOUT_S", "1 to 9 s"),
    ("warning", "broker", "offsets of a group without members are kept for 60 minutes"),
    ("info", "broker", "auto.create.topics.enable=true"),
    ("error", "ebs-distribution", "no members; records to read: 5 of objects"),
    ("error", "ebs-distribution", "3 records of objects were deleted before they were read"),
    ("warning", "ebs-processing", "no members"),
    ("warning", "workers", "processing/gone sent its last heartbeat"),
    ("error", "project", "there is no module no.such"),
    ("info", "dead letters", "the API does not answer"),
    ("info", "clocks", "cannot be compared"),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Return the environment, with none of our settings in it but two partitions."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EBS_PARTITIONS", "2")
    monkeypatch.setenv("EBS_API_URL", "http://127.0.0.1:1")
    return monkeypatch


@pytest.fixture
def misconfigured_kafka(tmp_path):
    """Return a running broker whose own settings are wrong."""
    one = EmbeddedKafka(tmp_path, port=0, extra_properties=BROKER)
    asyncio.run(one.start())
    yield one
    asyncio.run(one.stop())


def examine(bootstrap: str) -> tuple[int, list[dict[str, str]]]:
    """Return the exit code and the findings."""
    result = CliRunner().invoke(cli, ["doctor", "--json", "--broker", bootstrap])
    assert result.exit_code in {0, 1}, result.output
    return result.exit_code, json.loads(result.stdout)


async def seed(bootstrap: str) -> None:
    """Make everything wrong: topics, a group that lost records, a worker that is gone."""
    settings = Settings(partitions=2, project="")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    specs = [spec for spec in catalogue(settings) if spec.name != "control"]
    await admin.create_topics(
        [
            NewTopic(
                spec.name,
                3 if spec.name == "dead-letters" else spec.partition_count,
                1,
                topic_configs={**spec.config, **SEEDED.get(spec.name, {})},
            )
            for spec in specs
        ]
    )
    registry = TopicRegistry(settings.names.topics, Cluster(bootstrap))
    names = [spec.name for spec in specs if not spec.is_registry]
    await registry.write(await registry.topic_ids(names))
    gone_at_ms = time.time_ns() // 1_000_000 - 60_000
    beat = heartbeat_of(WorkerIdentity("gone", "processing", "0", "here", 1, gone_at_ms), WorkerFigures(), gone_at_ms)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(WORKERS, beat, key=b"processing/gone", partition=0, timestamp_ms=gone_at_ms)
        for number in range(8):
            await producer.send_and_wait(OBJECTS, b"{}", key=b"%d" % number, partition=0)
    tp = TopicPartition(OBJECTS, 0)
    options = {"group_id": DISTRIBUTION_APP, "enable_auto_commit": False}  # its own would be the end's offset
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, **options) as consumer:
        consumer.assign([tp])
        await consumer.commit({tp: OffsetAndMetadata(0, "")})
    await admin.delete_records({tp: RecordsToDelete(3)})
    await admin.close()


def test_each_misconfiguration_is_named(misconfigured_kafka, environment):
    """Exit code 1, and a finding for each thing that is wrong, with its fix."""
    environment.setenv("EBS_PROJECT", "no.such")
    asyncio.run(seed(misconfigured_kafka.bootstrap))
    exit_code, findings = examine(misconfigured_kafka.bootstrap)
    said = "\n".join(f"{one['severity']} {one['subject']}: {one['what']}" for one in findings)
    missed = [
        (severity, subject, what)
        for severity, subject, what in NAMED
        if not any(
            severity == one["severity"] and subject == one["subject"] and what in one["what"] for one in findings
        )
    ]
    assert (1, []) == (exit_code, missed), said


def test_fresh_topics_without_workers_are_no_error(kafka):
    """Exit code 0: nobody works yet, which is a warning; nothing is changed by looking."""
    asyncio.run(ensure_topics(Cluster(kafka.bootstrap), catalogue(Settings(partitions=2))))
    exit_code, findings = examine(kafka.bootstrap)
    worse = {(one["severity"], one["subject"]) for one in findings if one["severity"] in {"warning", "error"}}
    roles = ("distribution", "processing", "statistics")
    assert (0, {("warning", f"ebs-{role}") for role in roles}) == (exit_code, worse - {("warning", "disk")})


def test_without_a_broker_nothing_can_be_said():
    """Exit code 2 and one sentence."""
    result = CliRunner().invoke(cli, ["doctor", "--broker", "127.0.0.1:1"])
    assert (2, True) == (result.exit_code, "no Kafka broker at 127.0.0.1:1" in result.stderr)
