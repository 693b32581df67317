"""Faust's consumer without its commits and seeks, and without dropping records.

Faust keeps driving it: it joins the group, calls the rebalance hooks, starts and stops the fetcher. What changes:

- a rebalance first calls `Transactions` (finish the current step, hold the lock), and last (claim, release the lock);
- records come in `RecordBatch`es, only of the open partitions, and none is ever dropped on the way to the agent;
- Faust's commit does nothing, its acknowledgements are bookkeeping: the step commits.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app.kafka.fencing import Membership
from app.kafka.leader_epochs import read_epoch_ends
from app.streaming.assignor import CopartitionedAssignor
from app.streaming.batching import RecordBatch, faust_message_of, take_batches, wake_takers
from app.streaming.input_reader import Fetching
from app.streaming.logs_in_use import LogsInUse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.kafka.reading import RecordReader
    from app.streaming.options import StreamingOptions
    from app.streaming.transactions import Transactions
    from app.streaming.watchdog import Watchdog

log = logging.getLogger(__name__)

_TAKE_TIMEOUT_S = 1.0
_TAKE_RECORDS = 8_000
_FETCH_WAIT_MS = 100
"""A partition that becomes fetchable waits for the fetch in flight; aiokafka has one at a time for each broker."""
_PARTITION_FETCH_BYTES = 1 << 20
_NEVER_IDLE_MS = 24 * 3_600_000
"""Waiting for running tasks must not count as idleness: aiokafka would leave the group. The watchdog looks after us."""


class StepApp(Protocol):
    """The part of a `StreamingApp` that its consumer needs."""

    options: StreamingOptions
    transactions: Transactions
    watchdog: Watchdog
    transactional_id: str
    conf: Any
    consumer_generation_id: int
    should_stop: bool


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer and keeps the heartbeat going while the main loop works."""

    app: StepApp
    consumer: Consumer

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._logs = LogsInUse(lambda epochs: read_epoch_ends(self._ensure_consumer()._client, epochs))  # noqa: SLF001  # aiokafka has no getter

    async def on_start(self) -> None:
        """Let the watchdog look after this thread too, then start the consumer."""
        self.app.watchdog.watch("the consumer's thread", self.thread_loop)
        await super().on_start()

    def _create_worker_consumer(self, transport: Any) -> RecordReader:
        options = self.app.options
        return options.cluster.within(options.request_timeout_ms).new_reader(
            # It shows the other members that our transactions belong to a living member (`abandoned_transactions`).
            self.app.transactional_id,
            group_id=self.app.conf.id,
            partition_assignment_strategy=[self.consumer.assignor],
            # `take_batches` decides: "earliest" would also restart if a broker has lost records, and the new records at
            # their offsets would be dropped without an error.
            auto_offset_reset="none",
            max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_poll_interval_ms=_NEVER_IDLE_MS,
            session_timeout_ms=options.session_timeout_ms,
            heartbeat_interval_ms=max(100, options.session_timeout_ms // 10),
            rebalance_timeout_ms=options.session_timeout_ms,
        )

    def present_membership(self) -> Membership:
        """Return our member id and generation; meaningful only inside a rebalance hook."""
        coordinator = self._ensure_consumer()._coordinator  # noqa: SLF001  # aiokafka has no public view of it
        return Membership(coordinator.generation, coordinator.member_id)

    def present_assignment(self) -> Any:
        """Return aiokafka's present assignment object; a new one for each generation."""
        subscription = self._ensure_consumer()._subscription.subscription  # noqa: SLF001  # as above
        return subscription.assignment if subscription is not None else None

    def positions(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the next offsets of partitions, -1 where there is none yet; may be called from any thread."""
        if self._consumer is None:
            return {}
        assignment = self.present_assignment()
        if assignment is None or not assignment.active:
            return {}
        states = {tp: assignment.state_value(tp) for tp in partitions & assignment.tps}
        return {tp: -1 if state._position is None else state._position for tp, state in states.items()}  # noqa: SLF001  # as above

    def rejoin(self) -> None:
        """Join the group again at the coordinator's next turn; a consumer that has not started yet joins anyway."""
        if self._consumer is not None:
            self.thread_loop.call_soon_threadsafe(self._consumer._coordinator.request_rejoin)  # noqa: SLF001  # as above

    async def take(self) -> list[RecordBatch]:
        """Take fetched batches; called from the main loop, waits a second at most."""
        batches: list[RecordBatch] = await self.call_thread(self._take)
        return batches

    async def _take(self) -> list[RecordBatch]:
        fetcher = self._ensure_consumer()._fetcher  # noqa: SLF001  # as above
        if fetcher._closed:  # noqa: SLF001  # as above
            raise ConsumerStoppedError
        assignment = self.present_assignment()
        wanted = self.consumer.wanted
        if assignment is None or not assignment.active:
            await asyncio.sleep(0.05)
            return []
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001  # as above
            batches = await take_batches(
                fetcher, assignment, wanted, timeout_s=_TAKE_TIMEOUT_S, max_records=_TAKE_RECORDS
            )
        known = self.app.transactions.ownership.leader_epochs
        return await self._logs.check(batches, known) if batches else batches

    def take_again(self) -> None:
        """Let a `take` that waits see that other partitions are wanted now; may be called from any thread."""
        fetcher = None if self._consumer is None else self._consumer._fetcher  # noqa: SLF001  # as above
        if fetcher is not None:
            self.thread_loop.call_soon_threadsafe(wake_takers, fetcher)

    async def seek_to(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Seek the partitions that are still assigned."""
        await self.call_thread(self._seek_to, offsets)

    async def end_offsets_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the last stable offsets."""
        ends: Mapping[TopicPartition, int] = await self.call_thread(self._ensure_consumer().end_offsets, partitions)
        return ends

    async def _seek_to(self, offsets: Mapping[TopicPartition, int]) -> None:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        for tp, offset in offsets.items():
            if tp in assigned:
                consumer.seek(tp, offset)


class Producer(driver.Producer):
    """Faust's own producer, which it starts and we do not use: it has to get past the broker all the same."""

    def _new_producer(self, transactional_id: str | None = None) -> Any:
        return self.app.options.cluster.new_producer("ebs-faust")


class Consumer(driver.Consumer):
    """The consumer of a worker; implements `InputReader`."""

    app: StepApp
    _thread: ConsumerThread

    def __init__(self, *args: Any, **options: Any) -> None:
        self.assignor = CopartitionedAssignor()
        self.wanted: frozenset[TopicPartition] = frozenset()
        self.delivered: dict[TopicPartition, int] = {}
        self._backed_up = False
        super().__init__(*args, **options)
        self.app.transactions.ownership.reader = self

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def open_partitions(self, partitions: frozenset[TopicPartition]) -> None:
        """Take records of these partitions from now on, and of no others; read by the consumer's thread."""
        has_more = bool(partitions - self.wanted)
        self.wanted = partitions
        if has_more:
            self._thread.take_again()

    def fetching(self) -> Fetching:
        """Return where the open partitions stand; see `progress_monitor`."""
        return Fetching(self._thread.positions(self.wanted), self._backed_up)

    def stand_aside(self, *, aside: bool) -> None:
        """Give up all partitions but stay in the group, or take part again; both request a rebalance now.

        If a rebalance has already begun, it may miss this: then `on_partitions_assigned` requests another one.
        """
        self.assignor.aside = aside
        if self.assignor.is_outdated:
            self._thread.rejoin()

    async def seek_to(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Go on from these offsets."""
        await self._thread.seek_to(offsets)

    async def earliest_offsets_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offset that each partition's log still has."""
        offsets: Mapping[TopicPartition, int] = await self._thread.earliest_offsets(*partitions)
        return offsets

    async def end_offsets_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where each partition ends for readers of committed records."""
        return await self._thread.end_offsets_of(partitions)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let the current step finish before another worker can own our partitions."""
        try:
            await self.app.transactions.suspend()
            await super().on_partitions_revoked(revoked)
        except Exception as error:  # noqa: BLE001  # aiokafka would only log it and go on
            self.app.transactions.fatal(error)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Claim the new assignment, then let Faust resume its streams."""
        try:
            membership = self._thread.present_membership()
            numbers = {tp.partition for tp in assigned if tp.topic in self.app.transactions.ownership.input_topics}
            self.assignor.remember(membership.generation, numbers)
            # Fetching starts again at the committed offsets: the steps drop the records that were delivered before.
            self.delivered.clear()
            self.app.transactions.resume(numbers, membership, self._thread.present_assignment())
            await super().on_partitions_assigned(assigned, generation_id)
            if self.assignor.is_outdated:
                self._thread.rejoin()
        except Exception as error:  # noqa: BLE001  # as above
            self.app.transactions.fatal(error)

    async def _drain_messages(self, fetcher: Any) -> None:
        deliver = self.callback
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)
                    continue
                for batch in await self._thread.take():
                    tp = TP(batch.topic, batch.partition)
                    # Waits while the agent's queue is full: that is all the back-pressure there is, and nothing
                    # is taken back or dropped when a rebalance comes between.
                    if batch.assignment is self.app.transactions.ownership.assignment:
                        self.delivered[TopicPartition(*tp)] = batch.end
                    self._backed_up = True
                    await deliver(faust_message_of(batch, tp, self.app.consumer_generation_id))
                    self._backed_up = False
        except ConsumerStoppedError:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise
        except Exception as error:  # noqa: BLE001  # a worker that reads no more must not stay in the group
            self.app.transactions.fatal(error)

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: a full queue makes the delivery wait."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Do nothing, as above."""

    async def perform_seek(self) -> None:
        """Do nothing: aiokafka starts at the committed offsets, `Ownership` seeks where that is not right."""

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: FBT001, FBT002  # Faust's signature
        """Commit nothing: the step did."""
        return False

    def ack(self, message: Any) -> bool:
        """Mark a message as done."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust looks at commits and fetches that are ours now."""
