"""A step: one transaction in the making, as the body of an agent sees it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, Self

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from app.streaming.offset_notes import NOT_KEPT, NOTE, NOTE_KEY, NOTED, OffsetNote, changed_notes, encode_notes
from app.streaming.tables import StepRows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import NoReturn

    from aiokafka.producer.message_accumulator import BatchBuilder

    from app.streaming.batching import RecordBatch
    from app.streaming.ownership import Ownership
    from app.streaming.partition import Partition
    from app.streaming.topic_limits import Headers, TopicLimits

_NOTHING: set[str] = set()
FULL_BATCHES = 32
"""Batches of up to 0.9 MB after which a step is full: a transaction has to end within its timeout, in memory too."""


class StepTransactions(Protocol):
    """The interface of `Transactions` for a step."""

    ownership: Ownership
    topic_limits: TopicLimits

    def fatal(self, error: BaseException, /) -> NoReturn:
        """End the process."""

    def admit(self, batch: RecordBatch, next_offset: int | None = None) -> RecordBatch | None:
        """Return the part of a batch that is not processed yet."""

    async def begin(self) -> None:
        """Begin a transaction."""

    async def end(self, step: Step) -> None:
        """Commit a step."""


class Step:
    """A transaction before its commit: the records that it read, the records that it sends, the changed rows.

    Use it as `async with step:`. Inside, `batches` has the records to process. When the block ends, the sent records
    and changed rows are committed together with the offsets, so each record counts exactly once. An exception that
    leaves the block ends the process before anything is committed.

    `began_at_ms` (epoch ms) is the stamp of all that it sends, and the time of all that its body counts as now.
    """

    def __init__(self, transactions: StepTransactions, gathered: Iterable[RecordBatch] = ()) -> None:
        self._transactions = transactions
        self._ownership = transactions.ownership
        self._limits = transactions.topic_limits
        self._gathered = gathered
        self._builders: dict[tuple[str, int], BatchBuilder] = {}
        self._full: list[tuple[str, int, BatchBuilder]] = []
        self._rows: dict[tuple[str, int], StepRows] = {}
        self.began_at_ms = 0
        self._notes: dict[int, dict[str, OffsetNote]] = {}
        self._admitted: set[TopicPartition] = set()
        self.batches: list[RecordBatch] = []
        self.left: list[RecordBatch] = []
        self.offsets: dict[TopicPartition, OffsetAndMetadata] = {}

    def partition(self, number: int) -> Partition | None:
        """Return a partition that this worker owns and may commit for, None if it does not."""
        partition = self._ownership.partitions.get(number)
        return partition if partition is not None and partition.active else None

    @property
    def is_full(self) -> bool:
        """Whether the step sends so much that its body should `leave` the records that it has not processed yet."""
        return len(self._full) >= FULL_BATCHES

    def leave(self, batch: RecordBatch, offset: int) -> None:
        """Leave the records of one of the step's batches from `offset` on to the next step.

        The left records must be all later records of the partition: those after `offset`, and those of later batches.
        """
        tp = TopicPartition(batch.topic, batch.partition)
        self.offsets[tp] = OffsetAndMetadata(min(offset, self.offsets[tp].offset), "")
        self.left.append(batch)

    def send(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None = None
    ) -> None:
        """Send a record with this step. Raises `RecordTooLarge` if its topic does not take it; the step goes on."""
        builder = self._builders.get((topic, partition))
        if builder is not None:
            if builder.append(key=key, value=value, timestamp=self.began_at_ms, headers=headers) is not None:
                return
            self.check_size(topic, key, value, headers)
            self._full.append((topic, partition, builder))
        else:
            self.check_size(topic, key, value, headers)
        builder = self._builders[topic, partition] = self._limits.new_batch(topic)
        # An empty batch takes a record of any size.
        builder.append(key=key, value=value, timestamp=self.began_at_ms, headers=headers)

    def check_size(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> None:
        """Raise `RecordTooLarge` if a topic does not take a record."""
        self._limits.check_size(topic, key, value, headers)

    def limit_bytes(self, topic: str) -> int:
        """Return how many bytes a record of a topic may have, with all that Kafka puts around it."""
        return self._limits.limit_bytes(topic)

    def rows(self, table: str, partition: int) -> StepRows:
        """Return a table's rows in a partition, to be read and changed with this step."""
        rows = self._rows.get((table, partition))
        if rows is None:
            owned = self._ownership.partitions[partition]
            rows = StepRows(owned.stores[table], self._ownership.changelog_of(table), partition)
            self._rows[table, partition] = rows
        return rows

    def commit_offset(self, topic: str, partition: int, offset: int, metadata: str = "") -> None:
        """Commit `offset` (the next one to read) and metadata of an input with this step."""
        self.offsets[TopicPartition(topic, partition)] = OffsetAndMetadata(offset, metadata)

    def repeat_offset(self, topic: str, partition: int) -> None:
        """Commit the offset of an input as it is, for a step that sends without having read.

        Without an offset Kafka would not ask whether the partition is still this worker's.
        """
        tp = TopicPartition(topic, partition)
        if tp not in self.offsets:
            owned = self._ownership.partitions[partition]
            self.offsets[tp] = OffsetAndMetadata(owned.next_offsets[topic], owned.metadata[topic])
            self._admitted.add(tp)

    async def __aenter__(self) -> Self:
        await self._transactions.begin()
        self.began_at_ms = time.time_ns() // 1_000_000
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
        self._note_offsets()
        for rows in self._rows.values():
            for key, value in rows.changed.items():
                self.send(rows.changelog, rows.partition, key, value)
        open_builders = [(topic, partition, builder) for (topic, partition), builder in self._builders.items()]
        return self._full + open_builders

    def _note_offsets(self) -> None:
        """Write the second copy of the offsets into the table, with other rows of the step, so that it costs little."""
        ownership = self._ownership
        if not ownership.notes_table:
            return
        with_records: dict[int, set[str]] = {}
        for batch in self.batches:
            with_records.setdefault(batch.partition, set()).add(batch.topic)
        now: dict[int, dict[str, OffsetNote]] = {}
        for tp, committed in self.offsets.items():
            # Of those who commit what they finish in any order the offset does not tell all.
            offset = committed.offset if tp in self._admitted else NOT_KEPT
            note = OffsetNote(ownership.topic_ids[tp.topic], offset, ownership.cluster_id)
            now.setdefault(tp.partition, {})[tp.topic] = note
        for number, by_topic in now.items():
            known = ownership.partitions[number].offset_notes
            changelogs = map(ownership.changelog_of, ownership.partitions[number].stores)
            new = [name for name in changelogs if name not in known]
            notes = changed_notes(known, by_topic | dict.fromkeys(new, NOTED), with_records.get(number, _NOTHING))
            if notes is not None:
                self._notes[number] = notes
                told: dict[str, bytes] = dict.fromkeys(new, NOTE)
                told[ownership.changelog_of(ownership.notes_table)] = encode_notes(notes)
                for changelog, value in told.items():
                    self.send(changelog, number, NOTE_KEY, value)

    def apply(self) -> None:
        """Make the committed step visible: advance the partitions' offsets, write the rows to the stores."""
        partitions = self._ownership.partitions
        for tp, committed in self.offsets.items():
            partition = partitions[tp.partition]
            partition.next_offsets[tp.topic] = committed.offset
            partition.metadata[tp.topic] = committed.metadata
        for number, notes in self._notes.items():
            partitions[number].offset_notes = notes
        for rows in self._rows.values():
            rows.apply()
