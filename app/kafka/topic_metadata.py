"""Reads topics from a broker: their ids, and the leaders of their partitions.

The id identifies a topic (KIP-516), the name does not: a recreated topic starts at offset 0, so stored offsets are
wrong for it. aiokafka 0.14 knows Metadata up to v5, which has no topic ids, so v10 is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, Int16, Int32, Schema, TaggedFields

from app.kafka.protocol import NO_TAGS, STRING, OneVersionRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from io import BytesIO

    from aiokafka.client import AIOKafkaClient

_UUID_BYTES = 16
_NO_LEADER = -1
_UNKNOWN_TOPIC = 3


class TopicMetadata(NamedTuple):
    """A topic: its id, partition count and by partition the leader's node id; `weak` ones may take no writes.

    A partition is weak without a leader, or while fewer than a majority of its replicas are in sync. A topic that does
    not exist is `missing`. If the broker does not describe a topic for another reason, it also has no partitions here.
    """

    topic_id: str
    partition_count: int
    leaders: Mapping[int, int]
    weak: tuple[int, ...]
    missing: bool = False


class ClusterMetadata(NamedTuple):
    """A cluster's id and topics by name; a topic that does not exist has no partitions."""

    cluster_id: str
    topics: dict[str, TopicMetadata]


class _Uuid(AbstractType[bytes]):
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_UUID_BYTES)


_BROKERS = CompactArray(("node_id", Int32), ("host", STRING), ("port", Int32), ("rack", STRING), ("tags", TaggedFields))
_PARTITIONS = CompactArray(
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)
_TOPICS = CompactArray(
    ("error_code", Int16),
    ("name", STRING),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    ("partitions", _PARTITIONS),
    ("authorized_operations", Int32),
    ("tags", TaggedFields),
)


class _MetadataResponseV10(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", _BROKERS),
        ("cluster_id", STRING),
        ("controller_id", Int32),
        ("topics", _TOPICS),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestV10(RequestStruct):
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponseV10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", STRING), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class DescribeTopics(OneVersionRequest):
    """Metadata of topics by name; makes none that is missing."""

    STRUCT = _MetadataRequestV10

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        may_create, with_rights = False, False
        topics = [(bytes(_UUID_BYTES), name, NO_TAGS) for name in self.names]
        super().__init__(topics, may_create, with_rights, with_rights)


async def read_topics(client: AIOKafkaClient, names: Iterable[str]) -> ClusterMetadata:
    """Ask some broker about topics. Raises aiokafka's `KafkaError` or `OSError` if it does not answer."""
    node_id = client.get_random_node()
    if node_id is None:
        raise KafkaConnectionError("no broker has registered yet")
    response = await client.send(node_id, DescribeTopics(names))
    topics = {
        name: _topic_of(code, topic_id, partitions) for code, name, topic_id, _, partitions, *_ in response.topics
    }
    return ClusterMetadata(response.cluster_id or "", topics)


def _topic_of(code: int, topic_id: bytes, partitions: list[tuple[Any, ...]]) -> TopicMetadata:
    leaders, weak = {}, []
    for _code, number, leader, _epoch, replicas, in_sync, *_ in partitions:
        if leader == _NO_LEADER or 2 * len(in_sync) < len(replicas):
            weak.append(number)
        if leader != _NO_LEADER:
            leaders[number] = leader
    known_id = topic_id.hex() if any(topic_id) else ""
    is_missing = code == _UNKNOWN_TOPIC
    return TopicMetadata(known_id, len(partitions), leaders, tuple(sorted(weak)), is_missing)
