"""Reads and writes `ebs-topics`, where a system notes which topics are its own (`app.topics.ownership`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from app.errors import ForeignTopics
from app.kafka.cluster import started
from app.kafka.errors import TopicAuthorizationFailedError
from app.kafka.topic_metadata import read_topics
from app.kafka.types import TopicPartition
from app.topics.ownership import TopicClaim, decode_claim, take_claim

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from app.kafka.cluster import Cluster
    from app.kafka.reading import RecordReader

CLIENT_ID = "ebs-topics"
REQUEST_TIMEOUT_MS = 10_000
_POLL_MS = 100


class TopicRegistry:
    """The claims on a cluster. Raises aiokafka's `KafkaError` throughout."""

    def __init__(self, topic: str, cluster: Cluster) -> None:
        self.topic = topic
        self._cluster = cluster

    async def read(self) -> dict[str, TopicClaim]:
        """Return the claims by topic; raises `ForeignTopics` if somebody else writes to the registry's topic."""
        partition = TopicPartition(self.topic, 0)
        claims: dict[str, TopicClaim] = {}
        async with self._reader() as reader:
            end = (await reader.end_offsets([partition]))[partition]
            reader.assign([partition])
            await reader.seek_to_beginning(partition)
            while await reader.position(partition) < end:
                for record in (await reader.getmany(partition, timeout_ms=_POLL_MS)).get(partition, ()):
                    claim = decode_claim(record.value or b"")
                    if claim is None or record.key is None:
                        raise ForeignTopics(
                            f"topic {self.topic} holds records that are not ours (offset {record.offset}): it belongs "
                            "to somebody else. Nothing was written. Set EBS_NAMESPACE to a name of your own (such as "
                            "EBS_NAMESPACE=acme): it begins the names of all our topics and groups"
                        )
                    take_claim(claims, record.key.decode("utf-8", "replace"), claim)
        return claims

    async def own_of(self, names: Sequence[str]) -> set[str]:
        """Return those of the topics that are noted as this system's, by their ids."""
        topic_ids = await self.topic_ids([self.topic, *names])
        if self.topic not in topic_ids:
            return set()
        claims = await self.read()
        return {name for name in names if name in claims and claims[name].topic_id == topic_ids.get(name)}

    async def empty_of(self, partition_counts: Mapping[str, int]) -> set[str]:
        """Return those of the topics that were never written to."""
        partitions = [
            TopicPartition(name, number) for name, count in partition_counts.items() for number in range(count)
        ]
        async with self._reader() as reader:
            ends = await reader.end_offsets(partitions) if partitions else {}
        written = {tp.topic for tp, end in ends.items() if end > 0}
        return set(partition_counts) - written

    async def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        """Return the ids of the topics that exist."""
        async with self._cluster.client(CLIENT_ID) as client:
            found = await read_topics(client, names)
        return {name: one.topic_id for name, one in found.topics.items() if one.partition_count}

    async def write(self, topic_ids: Mapping[str, str], *, adopted: bool = False) -> dict[str, TopicClaim]:
        """Claim topics, and return the claims; those whose id is empty are about to be made."""
        at_ms = time.time_ns() // 1_000_000
        claims = {name: TopicClaim(topic_id, at_ms, adopted) for name, topic_id in topic_ids.items()}
        if not claims:
            return claims
        producer = await started(self._cluster.new_producer(CLIENT_ID))
        try:
            sent = [
                await producer.send(self.topic, msgspec.json.encode(claim), name.encode(), 0)
                for name, claim in claims.items()
            ]
            for one in sent:
                await one
        except TopicAuthorizationFailedError:
            raise TopicAuthorizationFailedError(f"our user may not write to {self.topic}") from None
        finally:
            await producer.stop()
        return claims

    def _reader(self) -> AbstractAsyncContextManager[RecordReader]:
        return self._cluster.reader(CLIENT_ID, isolation_level="read_uncommitted")
