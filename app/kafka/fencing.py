"""Fencing by consumer group (KIP-447): a worker that is no longer in its group cannot commit.

aiokafka 0.14 knows TxnOffsetCommit v0 and OffsetFetch v3 only. Exactly once needs newer versions of both:

- TxnOffsetCommit v3 carries member id and generation; if another worker owns the partitions, the coordinator refuses
  the offsets, and with them the whole transaction (`producer` sends it).
- OffsetFetch v7 with `require_stable` answers UNSTABLE_OFFSET_COMMIT while another worker's transaction that commits
  these offsets is still open; with the older offset, its records would be processed twice.

Both were tested with Kafka 3.3, 4.1 and 4.4. The member id and generation are the values from the assignment of the
partitions: aiokafka resets its own to -1 and "" when it loses its membership, and the coordinator accepts these values
as those of a client older than KIP-447.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiokafka import TopicPartition, errors
from aiokafka.client import ConnectionGroup, CoordinationType

from app.kafka.protocol import NO_TAGS, OffsetFetch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiokafka.client import AIOKafkaClient

UNSTABLE_OFFSET_COMMIT = 88


class Membership(NamedTuple):
    """Who a worker is to its group's coordinator; a new generation is a new assignment."""

    generation: int
    member_id: str


class CommittedOffset(NamedTuple):
    """A partition's committed offset (the next one to read; -1 if there is none) and its metadata.

    `leader_epoch` is the leader epoch of the last record that was read before the commit; -1 if it is not known.
    """

    offset: int
    metadata: str
    leader_epoch: int = -1


async def fetch_stable_offsets(
    client: AIOKafkaClient, group_id: str, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, CommittedOffset] | None:
    """Read the committed offsets if no open transaction can change them; None if one can, or no broker answers.

    The caller asks again after a pause: an open transaction of a dead worker ends at its timeout at the latest.
    """
    topics: dict[str, list[int]] = {}
    for tp in partitions:
        topics.setdefault(tp.topic, []).append(tp.partition)
    asked = [(topic, numbers, NO_TAGS) for topic, numbers in topics.items()]
    require_stable = True
    try:
        node_id = await client.coordinator_lookup(CoordinationType.GROUP, group_id)
        if not await client.ready(node_id, group=ConnectionGroup.COORDINATION):
            return None
        request = OffsetFetch(group_id, asked, require_stable)
        response = await client.send(node_id, request, group=ConnectionGroup.COORDINATION)
    except errors.KafkaError as error:
        if not error.retriable:
            raise
        return None
    committed: dict[TopicPartition, CommittedOffset] = {}
    codes = {response.error_code}
    for topic, answers, _tags in response.topics:
        for number, offset, leader_epoch, metadata, code, _tags in answers:
            codes.add(code)
            committed[TopicPartition(topic, number)] = CommittedOffset(offset, metadata or "", leader_epoch)
    for code in codes - {0, UNSTABLE_OFFSET_COMMIT}:
        error_type = errors.for_code(code)
        if not error_type.retriable:
            raise error_type
    return committed if codes == {0} else None
