"""Tells topics from topics of the same name: the cluster's id and the topics' own (KIP-516).

A cluster that was made anew, or a topic that was deleted and made again, starts at offset 0: a store that goes on at
its old offset would miss records and keep rows of objects that are gone. aiokafka 0.14 knows Metadata up to v5, which
has no topic ids, so v12 is added here (Kafka 3.0 and newer).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from api.view.store import Layout
from app.broker_probe import PLAINTEXT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BytesIO

    from app.broker_probe import Security

_STRING = CompactString("utf-8")
_NO_TAGS: dict[int, bytes] = {}
_UUID_BYTES = 16
_REQUEST_TIMEOUT_MS = 5_000


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka is untyped to mypy
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_UUID_BYTES)


_BROKERS = CompactArray(
    ("node_id", Int32), ("host", _STRING), ("port", Int32), ("rack", _STRING), ("tags", TaggedFields)
)
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
    ("name", _STRING),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    ("partitions", _PARTITIONS),
    ("authorized_operations", Int32),
    ("tags", TaggedFields),
)


class _MetadataResponseV12(Response):  # type: ignore[misc]  # aiokafka is untyped to mypy
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", _BROKERS),
        ("cluster_id", _STRING),
        ("controller_id", Int32),
        ("topics", _TOPICS),
        ("tags", TaggedFields),
    )


class _MetadataRequestV12(RequestStruct):  # type: ignore[misc]  # aiokafka is untyped to mypy
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponseV12
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _STRING), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _DescribeTopics(Request[_MetadataRequestV12]):  # type: ignore[misc]  # aiokafka is untyped to mypy
    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_MetadataRequestV12]) -> Any:
        topics = [(bytes(_UUID_BYTES), name, _NO_TAGS) for name in self._names]
        return request_struct_class(topics, False, False, _NO_TAGS)  # noqa: FBT003  # fields of a wire format


async def read_layout(bootstrap: str, names: Sequence[str], security: Security = PLAINTEXT) -> Layout:
    """Ask the broker which topics these are; one that is missing has 0 partitions.

    Raises what aiokafka raises (`KafkaError`, `OSError`) when nobody answers within seconds.
    """
    client = AIOKafkaClient(
        bootstrap_servers=bootstrap, client_id="ebs-api-identity", request_timeout_ms=_REQUEST_TIMEOUT_MS, **security
    )
    try:
        await client.bootstrap()
        node_id = client.get_random_node()
        if node_id is None:
            raise KafkaConnectionError(f"no broker is registered at {bootstrap} yet")
        response = await client.send(node_id, _DescribeTopics(names))
    finally:
        await client.close()
    topics = {name: (topic_id.hex(), len(partitions)) for _, name, topic_id, _, partitions, *_ in response.topics}
    return Layout(cluster_id=response.cluster_id or "", topics=topics)
