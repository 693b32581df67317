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
- Any doubt about a transaction ends the process (crash only); stores are written after the commit.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from aiokafka import TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import OffsetAndMetadata

from app.errors import RecordTooLarge, StepFailed
from app.kafka.leader_epochs import NO_EPOCH
from app.streaming.offset_notes import NOT_KEPT, NOTE, NOTE_KEY, NOTED, OffsetNote, changed_notes, encode_notes
from app.streaming.tables import StepRows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from types import TracebackType
    from typing import NoReturn

    from app.kafka.fencing import Membership
    from app.kafka.transactional_producer import TransactionalProducer
    from app.streaming.batching import RecordBatch
    from app.streaming.ownership import Ownership, Partition

log = logging.getLogger(__name__)

MAX_STEP_RECORDS = 16_000
"""Records that one step takes at most: bounds its memory and the time that a rebalance waits for it."""

MAX_STEP_BYTES = 16 << 20
"""Bytes of values that one step takes at most; what it sends is a multiple of them."""
MAX_BATCH_BYTES = 900_000
"""Size at which a batch is closed: below the 1 MiB that brokers accept unless told otherwise."""

SURELY_FITS_BYTES = 10_000
"""A value of this size fits into any topic: callers need not ask `Step.check_size` about smaller ones."""
DEFAULT_RECORD_BYTES = 1_048_588
"""Largest batch that a topic takes unless told otherwise (max.message.bytes)."""

_NOTHING: set[str] = set()

Headers = list[tuple[str, bytes]]


class Step:
    """One transaction in the making: what it read, what it sends, what it changes.

    Use it as `async with step:`. Inside, `batches` holds the records to work, each exactly once for good; what the
    body sends and puts is committed with their offsets when the block ends. An exception that leaves the block ends
    the process before anything is committed.
    """

    def __init__(self, transactions: Transactions, gathered: Iterable[RecordBatch] = ()) -> None:
        self._transactions = transactions
        self._gathered = gathered
        self._builders: dict[tuple[str, int], BatchBuilder] = {}
        self._full: list[tuple[str, int, BatchBuilder]] = []
        self._rows: dict[tuple[str, int], StepRows] = {}
        self._timestamp_ms = 0
        self._places: dict[int, dict[str, OffsetNote]] = {}
        self._admitted: set[TopicPartition] = set()
        self.batches: list[RecordBatch] = []
        self.offsets: dict[TopicPartition, OffsetAndMetadata] = {}

    def partition(self, number: int) -> Partition | None:
        """Return a partition that this worker owns and may commit for, None if it does not."""
        partition = self._transactions.ownership.partitions.get(number)
        return partition if partition is not None and partition.active else None

    def send(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None = None
    ) -> None:
        """Send a record with this step. Raises `RecordTooLarge` if its topic does not take it; the step goes on."""
        builder = self._builders.get((topic, partition))
        if builder is not None:
            if builder.append(key=key, value=value, timestamp=self._timestamp_ms, headers=headers) is not None:
                return
            self.check_size(topic, key, value, headers)
            self._full.append((topic, partition, builder))
        else:
            self.check_size(topic, key, value, headers)
        builder = self._builders[topic, partition] = self._transactions.new_batch(topic)
        # An empty batch takes a record of any size.
        builder.append(key=key, value=value, timestamp=self._timestamp_ms, headers=headers)

    def check_size(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> None:
        """Raise `RecordTooLarge` if a topic does not take a record."""
        self._transactions.check_size(topic, key, value, headers)

    def limit_bytes(self, topic: str) -> int:
        """Return how many bytes a record of a topic may have, with all that Kafka puts around it."""
        return self._transactions.limit_bytes(topic)

    def rows(self, table: str, partition: int) -> StepRows:
        """Return a table's rows in a partition, to be read and changed with this step."""
        rows = self._rows.get((table, partition))
        if rows is None:
            owned = self._transactions.ownership.partitions[partition]
            rows = StepRows(owned.stores[table], self._transactions.ownership.changelog_of(table), partition)
            self._rows[table, partition] = rows
        return rows

    def commit_offset(self, topic: str, partition: int, offset: int, metadata: str = "") -> None:
        """Commit `offset` (the next one to read) and metadata of an input with this step."""
        self.offsets[TopicPartition(topic, partition)] = OffsetAndMetadata(offset, metadata)

    async def __aenter__(self) -> Self:
        await self._transactions.begin()
        self._timestamp_ms = time.time_ns() // 1_000_000
        try:
            self._admit()
        except BaseException as error:  # noqa: BLE001  # no `__aexit__` follows, and Faust would start the agent again
            self._transactions.fatal(error)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._transactions.fatal(error)
        await self._transactions.end(self)

    def _admit(self) -> None:
        for batch in self._gathered:
            tp = TopicPartition(batch.topic, batch.partition)
            taken = self.offsets.get(tp)
            admitted = self._transactions.admit(batch, taken.offset if taken else None)
            if admitted is not None:
                self._admitted.add(tp)
                self.offsets[tp] = OffsetAndMetadata(admitted.end, "")
                if admitted.records:
                    self.batches.append(admitted)

    def outputs(self) -> list[tuple[str, int, BatchBuilder]]:
        """Return everything to be sent, the changed table rows included, as batches by topic and partition."""
        self._note_places()
        for rows in self._rows.values():
            for key, value in rows.changed.items():
                self.send(rows.changelog, rows.partition, key, value)
        open_builders = [(topic, partition, builder) for (topic, partition), builder in self._builders.items()]
        return self._full + open_builders

    def _note_places(self) -> None:
        """Put where the group is into its table, too: beside rows of the same step, so that it costs no partition."""
        ownership = self._transactions.ownership
        if not ownership.notes_table:
            return
        with_records: dict[int, set[str]] = {}
        for batch in self.batches:
            with_records.setdefault(batch.partition, set()).add(batch.topic)
        now: dict[int, dict[str, OffsetNote]] = {}
        for tp, committed in self.offsets.items():
            # Of those who commit what they finish in any order the offset does not tell all.
            offset = committed.offset if tp in self._admitted else NOT_KEPT
            place = OffsetNote(ownership.topic_ids[tp.topic], offset, ownership.cluster_id)
            now.setdefault(tp.partition, {})[tp.topic] = place
        for number, by_topic in now.items():
            known = ownership.partitions[number].offset_notes
            changelogs = map(ownership.changelog_of, ownership.partitions[number].stores)
            new = [name for name in changelogs if name not in known]
            places = changed_notes(known, by_topic | dict.fromkeys(new, NOTED), with_records.get(number, _NOTHING))
            if places is not None:
                self._places[number] = places
                notes = dict.fromkeys(new, NOTE)
                notes[ownership.changelog_of(ownership.notes_table)] = encode_notes(places)
                for changelog, note in notes.items():
                    self.send(changelog, number, NOTE_KEY, note)

    def apply(self) -> None:
        """Make the committed step visible: advance the partitions' offsets, write the rows to the stores."""
        partitions = self._transactions.ownership.partitions
        for tp, committed in self.offsets.items():
            partition = partitions[tp.partition]
            partition.next_offsets[tp.topic] = committed.offset
            partition.metadata[tp.topic] = committed.metadata
        for number, places in self._places.items():
            partitions[number].offset_notes = places
        for rows in self._rows.values():
            rows.apply()


class Transactions:
    """The transactions of one worker process: gathers steps, commits them, stands still during rebalances.

    Guarantee: exactly once from input topics to output topics and tables, through crashes, pauses and rebalances.
    `step_observers` hear of each commit: how many records and rows it wrote, and how long it took (s).
    `max_message_bytes` is what topics take, as far as it is known.
    """

    def __init__(
        self,
        *,
        ownership: Ownership,
        new_producer: Callable[[Callable[[], Membership]], TransactionalProducer],
        fatal: Callable[[BaseException], NoReturn],
    ) -> None:
        self.ownership = ownership
        self.fatal = fatal
        self.committed_count = 0
        self.committed_at_s = time.time()
        self.step_open = False
        self.step_observers: list[Callable[[int, float], None]] = []
        self.max_message_bytes: dict[str, int] = {}
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
        """Yield a step whenever records wait: all of them, of all partitions, up to `max_records` and one batch."""
        gathered = _Gathered(max_records)
        gathering = asyncio.create_task(gathered.fill_from(stream))
        try:
            while batches := await gathered.take(gathering):
                yield Step(self, batches)
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
                "they were deleted before they were worked (raise EBS_RETENTION_DAYS), or skipped"
            )
        return batch.since(next_offset) if batch.end > next_offset else None

    def new_batch(self, topic: str) -> BatchBuilder:
        """Return an empty batch for a topic."""
        return BatchBuilder(min(MAX_BATCH_BYTES, self.limit_bytes(topic)), 0, is_transactional=1)

    def limit_bytes(self, topic: str) -> int:
        """See `Step.limit_bytes`."""
        return self.max_message_bytes.get(topic, DEFAULT_RECORD_BYTES)

    def check_size(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> None:
        """See `Step.check_size`."""
        size_bytes = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers or [])
        limit_bytes = self.limit_bytes(topic)
        if size_bytes > limit_bytes:
            raise RecordTooLarge(
                f"{topic} takes at most {limit_bytes} bytes a record (max.message.bytes), this one has {size_bytes}"
            )

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
        if step.offsets:
            sent = [await producer.send_batch(builder, topic, partition=number) for topic, number, builder in outputs]
            await asyncio.gather(*sent)
            # One after the other: the broker verifies each against the transaction (KIP-890), and of two at once it
            # fails the first, which aiokafka then sends again 100 ms later (seen as NOT_ENOUGH_REPLICAS).
            await producer.send_offsets_to_transaction(step.offsets, self.ownership.group_id)
        await producer.commit_transaction()
        step.apply()
        self.committed_count += 1
        self.committed_at_s = time.time()
        if step.offsets:
            record_count = sum(builder.record_count() for _, _, builder in outputs)
            for observe in self.step_observers:
                observe(record_count, time.perf_counter() - self._began_at_s)


class _Gathered:
    """Batches between the stream and the next step, at most `max_records` and `MAX_STEP_BYTES`, and one batch."""

    def __init__(self, max_records: int) -> None:
        self._batches: deque[RecordBatch] = deque()
        self._record_count = 0
        self._size_bytes = 0
        self._max_records = max_records
        self._some = asyncio.Event()
        self._room = asyncio.Event()

    async def fill_from(self, stream: Any) -> None:
        async for event in stream.events():
            batch: RecordBatch = event.value
            self._batches.append(batch)
            self._record_count += len(batch.records)
            self._size_bytes += sum(record.serialized_value_size for record in batch.records)
            self._some.set()
            if self._record_count >= self._max_records or self._size_bytes >= MAX_STEP_BYTES:
                self._room.clear()
                await self._room.wait()

    async def take(self, filling: asyncio.Task[None]) -> Sequence[RecordBatch]:
        """Wait for batches and return all; an empty sequence when the stream has ended."""
        if not self._some.is_set():
            waiting = asyncio.ensure_future(self._some.wait())
            await asyncio.wait([waiting, filling], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if filling.done() and not self._batches:
                filling.result()
                return ()
        taken = list(self._batches)
        self._batches.clear()
        self._record_count = 0
        self._size_bytes = 0
        self._some.clear()
        self._room.set()
        return taken
