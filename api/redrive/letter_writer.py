"""The writer of dead letters: one API process at a time acts on them, and each of its writes is one transaction.

All API processes share one transactional id. A process that takes over fences the writer before it, so the open
transaction of that writer is aborted or committed. Then it reads `dead-letters` up to the high watermark: past every
act that was ever committed. A decision taken after that holds until the commit, because the commit fails if another
process has taken over meanwhile.

Guarantee: if two processes act on a letter at the same time, one commits, and the other sees this before it decides
again. Request, event and act of a redrive are on their topics together or not at all, whatever crashes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from api.submit.publisher import MAX_BATCH_BYTES, abandon, look_at, send_batches
from api.view.behind import ViewBehind
from app.errors import BrokerUnavailable, OutcomeUnknown, RecordRefused, TransactionInDoubt
from app.kafka.errors import (
    BrokerResponseError,
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    ProducerFenced,
)
from app.kafka.types import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from api.submit.publisher import Ends
    from api.view.view import View
    from app.kafka.cluster import Cluster
    from app.rules.outgoing import Outgoing
    from app.settings.settings import Settings

_log = logging.getLogger(__name__)

# The last one: aiokafka was told that it is fenced while we were still handing it batches.
_FENCED = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping, InvalidTxnState, IllegalOperation)
_ACKNOWLEDGED_TOO_LATE_S = 1.0
"""What a transaction's time-out is longer than our own patience, so that ours is what ends it."""


class LetterWriter(Protocol):
    """What acting on dead letters needs; tests bring their own."""

    async def take_over(self) -> None:
        """Be the only one who acts, with a view that knows all acts. Raises `BrokerUnavailable`, `ViewBehind`."""

    async def commit(self, records: Iterable[Outgoing]) -> dict[int, int]:
        """Write records together; returns by partition where `dead-letters` ends after them.

        Raises `OutcomeUnknown` if another process took over, or the broker did not answer: the next `take_over` tells
        what became of them. Raises `RecordRefused` if nothing was written, and never will be.
        """

    async def close(self) -> None:
        """Stop being the writer."""


class KafkaLetterWriter:
    """A `LetterWriter` on a broker."""

    def __init__(self, cluster: Cluster, settings: Settings, view: View) -> None:
        self._cluster = cluster
        self._names = settings.names
        self._topic = settings.names.dead_letters
        self._partitions = [TopicPartition(self._topic, number) for number in range(settings.partitions)]
        self._timeout_s = settings.publish_timeout_s
        self._view = view
        self._producer: Any = None
        self._ends: dict[int, int] = {}
        self._abandoned: set[asyncio.Task[None]] = set()

    async def take_over(self) -> None:
        """See `LetterWriter.take_over`."""
        if self._producer is None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    self._producer = await self._start()
            except (KafkaError, OSError, TimeoutError) as error:
                raise BrokerUnavailable(
                    f"no answer from the Kafka broker at {self._cluster.bootstrap} ({error!r})"
                ) from error
        if not await self._view.wait_for(self._topic, self._ends):
            raise ViewBehind(f"the read view is behind ({self._view.progress.lag_records} records)")

    async def commit(self, records: Iterable[Outgoing]) -> dict[int, int]:
        """See `LetterWriter.commit`."""
        producer = self._producer
        try:
            async with asyncio.timeout(self._timeout_s):
                await producer.begin_transaction()
                ends = await send_batches(producer, records)
                await producer.commit_transaction()
        except (KafkaError, IllegalOperation, TransactionInDoubt, TimeoutError) as error:
            look_at(producer._txn_manager.wait_for_transaction_end())  # noqa: SLF001  # nobody waits for a fenced one
            self._let_go()
            raise self._explained(error) from error
        except BaseException:
            self._let_go()
            raise
        written = self._ends_of_letters(ends)
        for partition, end in written.items():
            self._ends[partition] = max(end, self._ends.get(partition, 0))
        return written

    async def close(self) -> None:
        """See `LetterWriter.close`."""
        self._let_go()
        await asyncio.gather(*self._abandoned, return_exceptions=True)

    def _let_go(self) -> None:
        """Give up the producer; the next one, here or elsewhere, ends the transaction that is open, if any."""
        producer, self._producer = self._producer, None
        if producer is not None:
            task = asyncio.create_task(abandon(producer))
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)

    async def _start(self) -> Any:
        producer = self._cluster.within(max(1_000, self._timeout_s * 1_000)).new_transactional_producer(
            self._names.desk_transactional_id,
            client_id="ebs-api-letters",
            transaction_timeout_ms=round((self._timeout_s + _ACKNOWLEDGED_TOO_LATE_S) * 1_000),
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=MAX_BATCH_BYTES,
        )
        try:
            await producer.start()
            self._ends = await self._read_high_watermarks()
        except BaseException:
            await abandon(producer)
            raise
        return producer

    async def _read_high_watermarks(self) -> dict[int, int]:
        """Return where the partitions end, beyond what open transactions of workers hide."""
        async with self._cluster.reader("ebs-api-letters", isolation_level="read_uncommitted") as consumer:
            ends = await consumer.end_offsets(self._partitions)
        return {tp.partition: end for tp, end in ends.items()}

    def _explained(self, error: Exception) -> OutcomeUnknown | RecordRefused:
        if isinstance(error, _FENCED):
            return OutcomeUnknown("another API process is changing dead letters right now")
        _log.warning("the Kafka broker at %s did not accept a transaction: %r", self._cluster.bootstrap, error)
        if isinstance(error, BrokerResponseError) and not error.retriable:
            return RecordRefused(f"the Kafka broker at {self._cluster.bootstrap} refused it: {error}")
        return OutcomeUnknown(
            f"the Kafka broker at {self._cluster.bootstrap} did not confirm within {self._timeout_s:g} s"
        )

    def _ends_of_letters(self, ends: Ends) -> dict[int, int]:
        return {partition: end for (topic, partition), end in ends.items() if topic == self._topic}
