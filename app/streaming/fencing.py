"""Fencing by consumer group (KIP-447): a worker that its group has left behind can no longer commit.

aiokafka 0.14 knows TxnOffsetCommit v0 and OffsetFetch v3 only. Here are the two versions that exactly-once needs:

- TxnOffsetCommit v3 carries member id and generation; the coordinator refuses the offsets, and with them the whole
  transaction, of a worker whose partitions belong to somebody else.
- OffsetFetch v7 with `require_stable` answers UNSTABLE_OFFSET_COMMIT while another worker's transaction that commits
  these offsets is still open; reading the older offset then would work its records twice.

Both were seen to work with Kafka 4.1. The member id and generation are those captured when the partitions were
assigned: aiokafka resets its own to -1 and "" once it loses its membership, and the coordinator takes these for a
client from before KIP-447 and lets them pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition, errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.producer.sender import (
    AddOffsetsToTxnHandler,
    AddPartitionsToTxnHandler,
    Sender,
    TxnOffsetCommitHandler,
)

from app.streaming.protocol import NO_TAGS, OffsetFetch, TxnOffsetCommit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aiokafka.client import AIOKafkaClient
    from aiokafka.structs import OffsetAndMetadata

_NO_LEADER_EPOCH = -1
_CONCURRENT_TRANSACTIONS = 51
_MARKERS_BACKOFF_S = 0.003
UNSTABLE_OFFSET_COMMIT = 88
NO_COMMITTED_OFFSET = -1


class Membership(NamedTuple):
    """Who a worker is to its group's coordinator; a new generation is a new assignment."""

    generation: int
    member_id: str


class CommittedOffset(NamedTuple):
    """A partition's committed offset (the next one to read; -1 if there is none) and its metadata."""

    offset: int
    metadata: str


class _FencedCommitHandler(TxnOffsetCommitHandler):
    """aiokafka's handler, with the request that says who commits."""

    _sender: _FencedSender

    def create_request(self) -> TxnOffsetCommit:
        transaction = self._sender._txn_manager  # noqa: SLF001  # aiokafka's own extension seam: handlers read it
        membership = self._sender.membership()
        topics: dict[str, list[tuple[Any, ...]]] = {}
        for tp, commit in sorted(self._offsets.items()):
            partition = (tp.partition, commit.offset, _NO_LEADER_EPOCH, commit.metadata, NO_TAGS)
            topics.setdefault(tp.topic, []).append(partition)
        return TxnOffsetCommit(
            transaction.transactional_id,
            self._group_id,
            transaction.producer_id,
            transaction.producer_epoch,
            membership.generation,
            membership.member_id,
            None,
            [(topic, partitions, NO_TAGS) for topic, partitions in topics.items()],
        )

    def handle_response(self, response: Any) -> float | None:
        plain = _PlainResponse([(topic, [p[:2] for p in partitions]) for topic, partitions, _ in response.errors])
        backoff_s: float | None = super().handle_response(plain)
        return backoff_s


class _ImpatientAddPartitions(AddPartitionsToTxnHandler):
    """Asks again soon while the markers of the previous transaction are being written: 1 to 3 ms, aiokafka waits 20."""

    def handle_response(self, response: Any) -> float | None:
        backoff_s: float | None = super().handle_response(response)
        codes = {code for _, partitions in response.errors for _, code in partitions}
        return _MARKERS_BACKOFF_S if _CONCURRENT_TRANSACTIONS in codes else backoff_s


class _ImpatientAddOffsets(AddOffsetsToTxnHandler):
    """The same for a transaction that begins with its offsets, where aiokafka waits 100 ms."""

    def handle_response(self, response: Any) -> float | None:
        backoff_s: float | None = super().handle_response(response)
        return _MARKERS_BACKOFF_S if response.error_code == _CONCURRENT_TRANSACTIONS else backoff_s


class _PlainResponse(NamedTuple):
    """The part of a v3 response that aiokafka's v0 handler looks at."""

    errors: list[tuple[str, list[Any]]]


class _FencedSender(Sender):
    membership: Callable[[], Membership]

    async def _do_add_partitions_to_txn(self, partitions: Iterable[TopicPartition]) -> None:
        node_id = await self._find_coordinator(CoordinationType.TRANSACTION, self._txn_manager.transactional_id)
        await _ImpatientAddPartitions(self, partitions).do(node_id)

    async def _do_add_offsets_to_txn(self, group_id: str) -> None:
        node_id = await self._find_coordinator(CoordinationType.TRANSACTION, self._txn_manager.transactional_id)
        await _ImpatientAddOffsets(self, group_id).do(node_id)

    async def _do_txn_offset_commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group_id: str) -> None:
        if not offsets:
            return
        node_id = await self._find_coordinator(CoordinationType.GROUP, group_id)
        await _FencedCommitHandler(self, offsets, group_id).do(node_id)


class FencedProducer(AIOKafkaProducer):
    """A transactional producer whose offset commits carry the group membership that `membership()` returns.

    Guarantee: a transaction that sends offsets commits only while that membership is the group's present one.
    Source: KIP-447.
    """

    def __init__(self, *, membership: Callable[[], Membership], **options: Any) -> None:
        super().__init__(**options)
        # The sender is stateless until start(), so its class can still be told apart here; its constructor's
        # arguments are not kept by the producer and could not be repeated.
        self._sender.__class__ = _FencedSender
        self._sender.membership = membership


async def fetch_stable_offsets(
    client: AIOKafkaClient, group_id: str, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, CommittedOffset] | None:
    """Read the committed offsets that no open transaction can still change; None if one is open or nobody answers.

    The caller asks again after a pause: an open transaction of a dead worker ends after its time-out at the latest.
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
        for number, offset, _leader_epoch, metadata, code, _tags in answers:
            codes.add(code)
            committed[TopicPartition(topic, number)] = CommittedOffset(offset, metadata or "")
    for code in codes - {0, UNSTABLE_OFFSET_COMMIT}:
        error_type = errors.for_code(code)
        if not error_type.retriable:
            raise error_type
    return committed if codes == {0} else None
