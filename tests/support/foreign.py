"""Producers that are not ours: librdkafka, Java's own on a console, and bytes that no producer would send."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaClient, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.produce import ProduceRequest
from confluent_kafka import Producer

from ebs.local.kafka_runtime import KAFKA_VERSION, Jar, default_cache_dir, ensure_jars, find_java, pinned_jars

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TIMEOUT_S = 60
_TOOLS = Jar(
    "cb7aedcd2e418b86079c4b35257c8e37800eea84723c78c8b90f535bd589888e",
    615_926,
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
)
"""Kafka's command line tools, which its broker does without; the same ones whatever the broker's version."""


def object_value(object_id: str, content: str = "content", **fields: Any) -> bytes:
    """Return an object as an outside producer may write it, by the contract."""
    event = {"type": "OBJECT_CREATED", "object_id": object_id, "name": "n", "content": content}
    return json.dumps({**event, "at_ms": time.time_ns() // 1_000_000, "task_count": 1, **fields}).encode()


def produce(
    bootstrap: str, topic: str, values: Iterable[tuple[str, bytes]], *, partition: int, options: Mapping[str, Any]
) -> None:
    """Write values with librdkafka, in a transaction if `options` name a transactional id."""
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 100_000_000, **options})
    transactional = "transactional.id" in options
    failures: list[Any] = []
    if transactional:
        producer.init_transactions(_TIMEOUT_S)
        producer.begin_transaction()
    for key, value in values:
        producer.produce(
            topic, value, key, partition, on_delivery=lambda error, _: failures.append(error) if error else None
        )
    if transactional:
        producer.commit_transaction(_TIMEOUT_S)
    assert 0 == producer.flush(_TIMEOUT_S)
    assert [] == failures


def produce_by_console(bootstrap: str, topic: str, values: Iterable[tuple[str, bytes]], codec: str) -> None:
    """Write values with Java's console producer, which spreads them by key."""
    jars = ensure_jars(default_cache_dir(), jars=[*pinned_jars(), _TOOLS])
    lines = b"".join(key.encode() + b"\t" + value + b"\n" for key, value in values)
    subprocess.run(
        [
            *(str(find_java()), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),  # it lives for a second
            *("-cp", f"{jars}/*", "org.apache.kafka.tools.ConsoleProducer"),
            *("--bootstrap-server", bootstrap, "--topic", topic, "--compression-codec", codec),
            *("--property", "parse.key=true"),
        ],
        input=lines,
        check=True,
        timeout=_TIMEOUT_S,
        capture_output=True,
    )


async def alter_topic(bootstrap: str, topic: str, configs: Mapping[str, str]) -> None:
    """Change the configuration of a topic, as an operator does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(configs))])
    finally:
        await admin.close()


async def send_batches(bootstrap: str, topic: str, partition: int, *batches: bytes) -> list[int]:
    """Send record batches as they are; returns their offsets. The broker must take them."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    offsets = []
    try:
        await client.set_topics([topic])
        node_id = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        for data in batches:
            request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, data)])])
            response = await client.send(node_id, request)
            ((_, ((_, code, offset, *_),)),) = response.topics
            assert 0 == code, f"the broker refused it: {code}"
            offsets.append(offset)
    finally:
        await client.close()
    return offsets
