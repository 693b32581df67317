"""The requests of a transaction to its coordinators, in both versions (`transactional_producer` explains them).

Each handler sends one request and judges its answer, as those of aiokafka do from which they come.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from aiokafka import TopicPartition, errors
from aiokafka.producer.sender import (
    AddOffsetsToTxnHandler,
    AddPartitionsToTxnHandler,
    BaseHandler,
    EndTxnHandler,
    SendProduceReqHandler,
    TxnOffsetCommitHandler,
)

from app.errors import TransactionInDoubt
from app.kafka.leader_epochs import NO_EPOCH
from app.kafka.protocol import NO_TAGS
from app.kafka.transaction_protocol import EndTxn, Produce, TxnOffsetCommit, TxnOffsetCommitV2

_CONCURRENT_TRANSACTIONS = 51
_OLD_NAMES: dict[int, int] = {90: errors.InvalidProducerEpoch.errno, 120: errors.InvalidTxnState.errno}
"""PRODUCER_FENCED and TRANSACTION_ABORTABLE, by the codes that aiokafka knows: both end us."""
MARKERS_BACKOFF_S = 0.003
"""The markers of the previous transaction are written within 1 to 3 ms; aiokafka waits 20 or 100."""


class Unrepeated(BaseHandler):
    """Gives up where aiokafka repeats a request that was not answered."""

    async def do(self, node_id: int) -> bool:
        request = self.create_request()
        try:
            response = await self._sender.client.send(node_id, request, group=self.group)
        except errors.NodeNotReadyError:
            # There is no connection, so nothing was sent.
            await asyncio.sleep(self.handle_error())
            return False
        except errors.KafkaError as error:
            raise TransactionInDoubt(
                f"{type(request).__name__} was sent but not answered ({error!r}): nobody can know whether the "
                "transaction is committed. Clusters with transaction.version=2 (Kafka 4) do not have this problem"
            ) from error
        backoff_s = self.handle_response(response)
        if backoff_s is None:
            return True
        await asyncio.sleep(backoff_s)
        return False


class OnlyEnd(Unrepeated, EndTxnHandler):
    """Ends a transaction of version 1."""


class BumpingEnd(EndTxnHandler):
    """Ends a transaction of version 2."""

    def create_request(self) -> EndTxn:
        transaction = self._sender._txn_manager  # noqa: SLF001  # aiokafka's own extension seam: handlers read it
        return EndTxn(
            transaction.transactional_id,
            transaction.producer_id,
            transaction.producer_epoch,
            bool(self._commit_result),
        )

    def handle_response(self, response: Any) -> float | None:
        if response.error_code:
            backoff_s: float | None = super().handle_response(_OneCode(_old(response.error_code)))
            return backoff_s
        self._sender._txn_manager.end_transaction(response.producer_id, response.producer_epoch)  # noqa: SLF001  # as above
        return None


class FencedCommit(Unrepeated, TxnOffsetCommitHandler):
    """Commits offsets with member id and generation, in a transaction of version 1."""

    _request: type[TxnOffsetCommit | TxnOffsetCommitV2] = TxnOffsetCommit

    def create_request(self) -> TxnOffsetCommit | TxnOffsetCommitV2:
        transaction = self._sender._txn_manager  # noqa: SLF001  # aiokafka's own extension seam: handlers read it
        membership = self._sender.membership()
        topics: dict[str, list[tuple[Any, ...]]] = {}
        for tp, commit in sorted(self._offsets.items()):
            epoch = self._sender.leader_epochs.get(tp, NO_EPOCH)
            partition = (tp.partition, commit.offset, epoch, commit.metadata, NO_TAGS)
            topics.setdefault(tp.topic, []).append(partition)
        return self._request(
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
        answers = [(topic, [(n, _old(code)) for n, code, _ in parts]) for topic, parts, _ in response.errors]
        if any(code == _CONCURRENT_TRANSACTIONS for _, parts in answers for _, code in parts):
            return MARKERS_BACKOFF_S
        backoff_s: float | None = super().handle_response(_Errors(answers))
        return backoff_s


class RepeatableCommit(FencedCommit):
    """The same in a transaction of version 2, where the broker refuses late requests."""

    _request = TxnOffsetCommitV2
    do = BaseHandler.do


class ImpatientAddPartitions(AddPartitionsToTxnHandler):
    """Asks again soon while the markers of the previous transaction are being written."""

    def handle_response(self, response: Any) -> float | None:
        backoff_s: float | None = super().handle_response(response)
        codes = {code for _, partitions in response.errors for _, code in partitions}
        return MARKERS_BACKOFF_S if _CONCURRENT_TRANSACTIONS in codes else backoff_s


class ImpatientAddOffsets(AddOffsetsToTxnHandler):
    """The same for a transaction that begins with its offsets."""

    def handle_response(self, response: Any) -> float | None:
        backoff_s: float | None = super().handle_response(response)
        return MARKERS_BACKOFF_S if response.error_code == _CONCURRENT_TRANSACTIONS else backoff_s


class ImplicitProduce(SendProduceReqHandler):
    """Writes records of partitions that join the transaction by it."""

    def create_request(self) -> Produce:
        topics: dict[str, list[tuple[Any, ...]]] = {}
        for tp, batch in self._batches.items():
            topics.setdefault(tp.topic, []).append((tp.partition, batch.get_data_buffer(), NO_TAGS))
        return Produce(
            self._sender._txn_manager.transactional_id,  # noqa: SLF001  # as above
            self._sender._acks,  # noqa: SLF001  # as above
            self._sender._request_timeout_ms,  # noqa: SLF001  # as above
            [(topic, partitions, NO_TAGS) for topic, partitions in topics.items()],
        )

    def handle_response(self, response: Any) -> None:
        answers: list[tuple[str, list[Any]]] = []
        for topic, partitions, _tags in response.topics:
            answers.append((topic, []))
            for number, code, *rest, _tags in partitions:
                if code == _CONCURRENT_TRANSACTIONS:
                    # Harmless, and aiokafka would take it for the end of the batch.
                    self._to_reenqueue.append(self._batches[TopicPartition(topic, number)])
                else:
                    answers[-1][1].append((number, _old(code), *rest))
        if self._to_reenqueue:
            self._default_backoff = MARKERS_BACKOFF_S
        super().handle_response(_ProduceResponseV8(answers))


def _old(code: int) -> int:
    """Return an error's code by the name that aiokafka has for it."""
    return _OLD_NAMES.get(code, code)


class _OneCode(NamedTuple):
    """The part of an EndTxn response that aiokafka's handler looks at."""

    error_code: int


class _Errors(NamedTuple):
    """The part of a TxnOffsetCommit response that aiokafka's v0 handler looks at."""

    errors: list[tuple[str, list[Any]]]


class _ProduceResponseV8(NamedTuple):
    """A Produce response as aiokafka's handler knows it."""

    topics: list[tuple[str, list[Any]]]
    API_VERSION: int = 8
