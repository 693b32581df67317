"""Whether a partition's log still has the records that were processed, by leader epochs (KIP-101, KIP-320).

Each leader of a partition has an epoch, a number that only grows, and each record batch has the epoch of the leader
that wrote it. If a broker loses a log (a new disk) or its end (an unclean election), the log grows again under a later
epoch. So a commit has the epoch of its last record, and the broker is asked where the log of this epoch ends. If this
is below the committed offset, records were lost, however long the log is now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, NotLeaderForPartitionError, for_code
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import Int16, Int32, Int64, Schema, TaggedFields

from app.kafka.protocol import NO_TAGS, OneVersionRequest, by_topic
from app.kafka.topic_metadata import read_topics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka.client import AIOKafkaClient

NO_EPOCH = -1
"""The epoch of a record of the formats before Kafka 0.11, of an offset that a person set, and of an unknown end."""
_CONSUMER_ID = -1
_FENCED_LEADER_EPOCH, _UNKNOWN_LEADER_EPOCH = 74, 75


class _OffsetForLeaderEpochResponseV4(Response):
    API_KEY = 23
    API_VERSION = 4
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            by_topic(
                "partitions",
                ("error_code", Int16),
                ("partition", Int32),
                ("leader_epoch", Int32),
                ("end_offset", Int64),
            ),
        ),
        ("tags", TaggedFields),
    )


class _OffsetForLeaderEpochRequestV4(RequestStruct):
    API_KEY = 23
    API_VERSION = 4
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _OffsetForLeaderEpochResponseV4
    SCHEMA = Schema(
        ("replica_id", Int32),
        (
            "topics",
            by_topic("partitions", ("partition", Int32), ("current_leader_epoch", Int32), ("leader_epoch", Int32)),
        ),
        ("tags", TaggedFields),
    )


class OffsetForLeaderEpoch(OneVersionRequest):
    """Where the logs of leader epochs end: who asks (-1: a consumer), topics with their partitions."""

    STRUCT = _OffsetForLeaderEpochRequestV4


async def read_epoch_ends(
    client: AIOKafkaClient, epochs: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int] | None:
    """Return for each partition where its log of that epoch, or of the last one before it, ends; None: ask again.

    0 if its leader knows of no such epoch: nothing of it is left. Raises aiokafka's `KafkaError` if a broker refuses.
    """
    asked = {tp: epoch for tp, epoch in epochs.items() if epoch != NO_EPOCH}
    if not asked:
        return {}
    ends: dict[TopicPartition, int] = {}
    try:
        topics = (await read_topics(client, dict.fromkeys(tp.topic for tp in asked))).topics
        by_leader: dict[int, dict[str, list[tuple[int, int, int, dict[int, bytes]]]]] = {}
        for tp, epoch in asked.items():
            leader = topics[tp.topic].leaders.get(tp.partition)
            if leader is None:
                return None
            partitions = by_leader.setdefault(leader, {}).setdefault(tp.topic, [])
            partitions.append((tp.partition, NO_EPOCH, epoch, NO_TAGS))
        for leader, by_name in by_leader.items():
            request = OffsetForLeaderEpoch(_CONSUMER_ID, [(name, parts, NO_TAGS) for name, parts in by_name.items()])
            for topic, answers, _tags in (await client.send(leader, request)).topics:
                for code, number, _epoch, end, _tags in answers:
                    _check(code)
                    ends[TopicPartition(topic, number)] = max(0, end)
    except KafkaError as error:
        if not error.retriable:
            raise
        return None
    return ends


def _check(code: int) -> None:
    if code in {_FENCED_LEADER_EPOCH, _UNKNOWN_LEADER_EPOCH}:
        raise NotLeaderForPartitionError
    if code:
        raise for_code(code)
