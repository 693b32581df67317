"""One Kafka transaction for each step of a worker: outputs, table rows and input offsets commit together or not at all.

A step takes all that is waiting, of all partitions of the worker; while one step commits, the next one gathers. So
batches grow with load and latency stays low, and the number of transactions does not grow with partitions (why Kafka
Streams left its first exactly-once). One producer a worker; its transactions are fenced by the group (`fencing`).

Why nothing is lost and nothing counts twice:

- A step's offsets, outputs and rows are one transaction, and every transaction carries offsets, so the coordinator
  refuses it once the worker has lost its place in the group.
- A step works a record only if its offset is at or above the partition's committed one; whatever a rebalance delivers
  again is cut off. A batch that starts above it would be a hole: the process ends instead.
- A rebalance waits for the step in hand, and no step begins before the new assignment is known.
- What another worker may have had meanwhile is claimed anew: stable offsets first, then the tables (`restore`).
- Rows that get an offset below the known end of their changelog end the worker (`changelog_ends`).
- Any doubt about a transaction ends the process (crash only); stores are written after the commit.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.errors import InvalidTimestampError
from aiokafka.structs import OffsetAndMetadata

from app.errors import StepFailed
from app.kafka.leader_epochs import NO_EPOCH
from app.streaming.changelog_ends import ChangelogEnds
from app.streaming.gathered_batches import MAX_STEP_RECORDS, GatheredBatches
from app.streaming.step import Step
from app.streaming.topic_limits import TopicLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from typing import NoReturn

    from app.kafka.fencing import Membership
    from app.kafka.transactional_producer import TransactionalProducer
    from app.streaming.batching import RecordBatch
    from app.streaming.ownership import Ownership

_WRONG_CLOCK = (
    "the broker refuses this worker's records because of their timestamps: the clock of this machine is wrong by more "
    "than the topic allows (message.timestamp.after.max.ms, an hour in Kafka 4). Set its clock (NTP)"
)


class Transactions:
    """The transactions of one worker process: gathers steps, commits them, stands still during rebalances.

    Guarantee: exactly once from input topics to output topics and tables, through crashes, pauses and rebalances.
    `step_observers` hear of each commit: how many records and rows it wrote, and how long it took (s).
    """

    def __init__(
        self,
        *,
        ownership: Ownership,
        new_producer: Callable[[Callable[[], Membership]], TransactionalProducer],
        fatal: Callable[[BaseException], NoReturn],
        compression: str = "none",
    ) -> None:
        self.ownership = ownership
        self.fatal = fatal
        self.committed_count = 0
        self.committed_at_s = time.time()
        self.step_open = False
        self.step_observers: list[Callable[[int, float], None]] = []
        self.topic_limits = TopicLimits(compression)
        self._began_at_s = 0.0
        self._new_producer = new_producer
        self._producer: TransactionalProducer | None = None
        self._lock = asyncio.Lock()
        self._suspended = False
        self._stopped = False

    async def start(self) -> None:
        """Connect the producer; an open transaction of an earlier life under the same id is aborted by this."""
        self._producer = self._new_producer(self._membership)
        self._producer.commit_with(self.ownership.leader_epochs)
        await self._producer.start()

    async def stop(self) -> None:
        """Let the step in hand finish, begin no other, and let go of everything."""
        self._stopped = True
        await self.suspend()
        await self.ownership.stop()
        if self._producer is not None:
            await self._producer.stop()

    async def suspend(self) -> None:
        """Wait for the step in hand and let none begin: a rebalance has begun, or the worker stops."""
        if not self._suspended:
            self._suspended = True
            self.ownership.suspend()
            await self._lock.acquire()

    def resume(self, numbers: Iterable[int], membership: Membership, assignment: object) -> None:
        """Take over a new assignment and let steps begin again."""
        assert self._producer is not None
        if self._stopped:
            # A rebalance that ends while we stop must not let a step begin.
            return
        self.ownership.claim(numbers, membership, assignment, self._producer.client)
        if self._suspended:
            self._suspended = False
            self._lock.release()

    def step(self) -> Step:
        """Return a step that takes no records of its own: its body says which offsets it commits."""
        return Step(self)

    async def steps(self, stream: Any, max_records: int = MAX_STEP_RECORDS) -> AsyncIterator[Step]:
        """Yield a step whenever records wait: all of them, of all partitions, up to `max_records` and one batch.

        What a step has left (`Step.leave`) comes first in the next one.
        """
        gathered = GatheredBatches(max_records)
        gathering = asyncio.create_task(gathered.fill_from(stream))
        try:
            while batches := await gathered.take(gathering):
                step = Step(self, batches)
                yield step
                gathered.give_back(step.left)
        finally:
            gathering.cancel()

    async def begin(self) -> None:
        """Begin a transaction; used by `Step`."""
        await self._lock.acquire()
        self.step_open = True
        self._began_at_s = time.perf_counter()
        assert self._producer is not None
        try:
            await self._producer.begin_transaction()
        except BaseException as error:  # noqa: BLE001  # the lock is held: whoever came next would wait for ever
            self.fatal(error)

    async def end(self, step: Step) -> None:
        """Commit a step; used by `Step`. Anything but success ends the process."""
        try:
            await self._commit(step)
        except InvalidTimestampError as error:
            self.fatal(StepFailed(_WRONG_CLOCK).with_traceback(error.__traceback__))
        except BaseException as error:  # noqa: BLE001  # a cancelled commit is as much in doubt as a failed one
            self.fatal(error)
        self.step_open = False
        self._lock.release()

    def admit(self, batch: RecordBatch, next_offset: int | None = None) -> RecordBatch | None:
        """Return what of a batch is still to be worked from `next_offset` on (default: the committed one), if any.

        Raises `StepFailed` if the batch begins above it: the records between are missing.
        """
        if batch.assignment is not self.ownership.assignment:
            # Fetched before a rebalance; fetching began anew at the committed offset since.
            return None
        partition = self.ownership.partitions.get(batch.partition)
        if partition is None or not partition.active:
            return None
        tp = TopicPartition(batch.topic, batch.partition)
        self.ownership.leader_epochs[tp] = max(batch.leader_epoch, self.ownership.leader_epochs.get(tp, NO_EPOCH))
        if next_offset is None:
            next_offset = partition.next_offsets[batch.topic]
        if batch.start > next_offset:
            raise StepFailed(
                f"records {next_offset} to {batch.start - 1} of {batch.topic}-{batch.partition} are missing: "
                "they were deleted before they were processed (raise EBS_RETENTION_DAYS), or skipped"
            )
        return batch.since(next_offset) if batch.end > next_offset else None

    def _membership(self) -> Membership:
        assert self.ownership.membership is not None
        return self.ownership.membership

    async def _commit(self, step: Step) -> None:
        producer = self._producer
        assert producer is not None
        outputs = step.outputs()
        if outputs and not step.offsets:
            # Without offsets the coordinator of the group is never asked, and a worker left behind could write.
            raise StepFailed("a step that sends must commit offsets")
        ends = ChangelogEnds(self.ownership, step.offsets)
        if step.offsets:
            sent = [await producer.send_batch(builder, topic, partition=number) for topic, number, builder in outputs]
            ends.follow(outputs, await asyncio.gather(*sent))
            if ends.lost:
                await self._tell_lost(step, ends)
            # One after the other: the broker verifies each against the transaction (KIP-890), and of two at once it
            # fails the first, which aiokafka then sends again 100 ms later (seen as NOT_ENOUGH_REPLICAS).
            await producer.send_offsets_to_transaction(ends.with_offsets(step.offsets), self.ownership.group_id)
        await producer.commit_transaction()
        step.apply()
        ends.keep()
        self.committed_count += 1
        self.committed_at_s = time.time()
        if step.offsets:
            record_count = sum(builder.record_count() for _, _, builder in outputs)
            for observe in self.step_observers:
                observe(record_count, time.perf_counter() - self._began_at_s)

    async def _tell_lost(self, step: Step, ends: ChangelogEnds) -> NoReturn:
        """Commit that changelogs are too short, instead of the step: what it has sent makes them longer again.

        The new producer has the id of the step's, whose transaction is aborted by that.
        """
        producer = self._new_producer(self._membership)
        await producer.start()
        await producer.begin_transaction()
        before = {}
        for tp in step.offsets:
            partition = self.ownership.partitions[tp.partition]
            before[tp] = OffsetAndMetadata(partition.next_offsets[tp.topic], partition.metadata[tp.topic])
        await producer.send_offsets_to_transaction(ends.with_offsets(before), self.ownership.group_id)
        await producer.commit_transaction()
        lost = " and ".join(f"{name} from offset {offset} on" for name, offset in ends.lost.items())
        raise StepFailed(f"the broker has lost rows of {lost}: the table is longer than its changelog")
