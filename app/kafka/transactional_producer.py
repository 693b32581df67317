"""A transactional producer that always knows how a transaction ended, even if a request or an answer is lost.

aiokafka 0.14 repeats a request that was not answered, under the same producer epoch. The first request may still
arrive, for example from the queue of a broker that was paused. An EndTxn that arrives late ends the *next* transaction
half way: its records are committed without its offsets, and the input is processed again (Jepsen's analysis of
Bufstream 0.1.0 found this in Kafka; librdkafka#5423). A TxnOffsetCommit that arrives late resets the offsets of the
next transaction.

The fix depends on the cluster's feature `transaction.version` (KIP-890):

- Version 2: the answer to each EndTxn has the epoch of the next transaction, so late requests have an old epoch and are
  refused. All requests may be repeated. A write to a partition or group adds it to the transaction, which saves two
  round trips per step.
- Older versions: without an answer the result is not known. If an important request is not answered, it raises
  `TransactionInDoubt`. An answer that says "try again" is an answer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer, TopicPartition, errors
from aiokafka.client import CoordinationType
from aiokafka.producer.sender import BaseHandler, Sender, SendProduceReqHandler
from aiokafka.producer.transaction_manager import PidAndEpoch, TransactionManager

from app.kafka.features import read_features, transaction_version
from app.kafka.transaction_handlers import (
    MARKERS_BACKOFF_S,
    BumpingEnd,
    FencedCommit,
    ImpatientAddOffsets,
    ImpatientAddPartitions,
    ImplicitProduce,
    OnlyEnd,
    RepeatableCommit,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aiokafka.structs import OffsetAndMetadata

    from app.kafka.fencing import Membership

log = logging.getLogger(__name__)


class TransactionalProducer(AIOKafkaProducer):
    """A producer of transactions; `transaction_version`, 1 or 2, is known once it has started.

    Guarantee: `commit_transaction` returns only if the transaction is committed, and raises only if it never will be
    or if that is in doubt. With `membership`, a transaction that sends offsets commits only while that membership is
    the group's present one (KIP-447).
    """

    def __init__(self, *, membership: Callable[[], Membership] | None = None, **options: Any) -> None:
        super().__init__(**options)
        # The sender is stateless until start(), so its class can still be told apart here; its constructor's
        # arguments are not kept by the producer and could not be repeated.
        self._sender.__class__ = _TransactionSender
        self._sender.membership = membership
        self.commit_with({})

    def commit_with(self, leader_epochs: Mapping[TopicPartition, int]) -> None:
        """Commit each input's offset with its leader epoch from here, as far as there is one (`leader_epochs`)."""
        self._sender.leader_epochs = leader_epochs

    @property
    def transaction_version(self) -> int:
        """How transactions work on this cluster (see the module)."""
        version: int = self._sender.transaction_version
        return version


class _SenderEnds(errors.ProducerFenced):
    """Carries an error out of aiokafka's routine, which lets this one alone pass as it is."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__()
        self.reason = reason


class _TransactionSender(Sender):
    membership: Callable[[], Membership] | None
    leader_epochs: Mapping[TopicPartition, int]
    transaction_version: int

    async def start(self) -> None:
        self.transaction_version = await self._ask_version()
        if self.transaction_version >= 2:
            self._txn_manager.__class__ = _ImplicitTransactions
        await super().start()

    async def _ask_version(self) -> int:
        while True:
            try:
                return transaction_version(await read_features(self.client))
            except errors.KafkaError as error:
                log.debug("cannot read the transaction versions of the brokers yet: %r", error)
                await self.client.force_metadata_update()
                await asyncio.sleep(self._retry_backoff)

    async def close(self) -> None:
        try:
            await super().close()
        except _SenderEnds as error:
            # It failed as it was asked to end. `_fail_all` has told whoever waits for a transaction.
            log.debug("the sender ended with %r", error.reason)

    def _fail_all(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        reason = error.reason if isinstance(error, _SenderEnds) else error
        self._message_accumulator.fail_all(reason)
        if self._txn_manager.wait_for_transaction_end() is not None:
            self._txn_manager.fatal_error(reason)

    async def _find_coordinator(self, kind: int, key: str) -> int:
        """Look until somebody answers.

        aiokafka ends over a connection that is lost meanwhile, as when a broker is stopped, though nothing was done.
        """
        while True:
            try:
                node_id: int = await super()._find_coordinator(kind, key)
            except errors.KafkaError as error:
                if not getattr(error.__cause__, "retriable", False):
                    raise
                await self.client.force_metadata_update()
                await asyncio.sleep(self._retry_backoff)
            else:
                return node_id

    async def _ask(self, kind: int, key: str, handler: BaseHandler) -> None:
        try:
            await handler.do(await self._find_coordinator(kind, key))
        except Exception as error:
            raise _SenderEnds(error) from error

    async def _ask_transactions(self, handler: BaseHandler) -> None:
        await self._ask(CoordinationType.TRANSACTION, self._txn_manager.transactional_id, handler)

    async def _send_produce_req(self, node_id: int, batches: Mapping[TopicPartition, Any]) -> None:
        if self.transaction_version < 2:
            await SendProduceReqHandler(self, batches).do(node_id)
        else:
            await self._markers_written()
            await ImplicitProduce(self, batches).do(node_id)
        self._in_flight.remove(node_id)
        self._muted_partitions.difference_update(batches)

    async def _markers_written(self) -> None:
        """Wait out the markers of the previous transaction: a broker that is asked sooner looks again 20 ms later."""
        early_s = self._txn_manager.ended_at_s + MARKERS_BACKOFF_S - asyncio.get_running_loop().time()
        if early_s > 0:
            await asyncio.sleep(early_s)

    async def _do_add_partitions_to_txn(self, partitions: Iterable[TopicPartition]) -> None:
        await self._ask_transactions(ImpatientAddPartitions(self, partitions))

    async def _do_add_offsets_to_txn(self, group_id: str) -> None:
        await self._ask_transactions(ImpatientAddOffsets(self, group_id))

    async def _do_txn_offset_commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group_id: str) -> None:
        if not offsets:
            return
        handler_type = FencedCommit if self.transaction_version < 2 else RepeatableCommit
        await self._ask(CoordinationType.GROUP, group_id, handler_type(self, offsets, group_id))

    async def _do_txn_commit(self, commit_result: Any) -> None:
        await self._message_accumulator.flush_for_commit()
        if self._txn_manager.is_empty_transaction():
            self._txn_manager.complete_transaction()
            return
        handler_type = OnlyEnd if self.transaction_version < 2 else BumpingEnd
        await self._ask_transactions(handler_type(self, commit_result))


class _ImplicitTransactions(TransactionManager):
    """Partitions and groups belong to a transaction once they are written to: nothing is added beforehand."""

    ended_at_s = 0.0

    def maybe_add_partition_to_txn(self, tp: TopicPartition) -> None:
        assert self.is_in_transaction()
        self._txn_partitions.add(tp)

    def add_offsets_to_txn(self, offsets: Any, group_id: str) -> asyncio.Future[None]:
        self._txn_consumer_group = group_id
        added: asyncio.Future[None] = super().add_offsets_to_txn(offsets, group_id)
        return added

    def end_transaction(self, producer_id: int, epoch: int) -> None:
        """Continue with the epoch of the answer; the broker counts sequence numbers from 0 in each epoch."""
        self._pid_and_epoch = PidAndEpoch(producer_id, epoch)
        self._sequence_numbers.clear()
        self.ended_at_s = asyncio.get_running_loop().time()
        self.complete_transaction()
