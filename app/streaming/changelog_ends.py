"""The ends of the changelogs of a worker's partitions, from the broker's answers to each step.

Only the owner of a partition writes to its changelogs, so new rows never get an offset below the known end. If they do,
the broker has lost the end of the log. The table of this worker still has the lost rows, but the table of the next
owner would not, without any error. So the worker ends, and its last commit says that the changelog is too short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka.structs import OffsetAndMetadata

from app.streaming.told_ends import LOST, join_ends

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import TopicPartition
    from aiokafka.producer.message_accumulator import BatchBuilder
    from aiokafka.structs import RecordMetadata

    from app.streaming.ownership import Ownership


class ChangelogEnds:
    """The ends of the changelogs of the partitions that a step commits.

    `lost` names the changelogs that are too short, with the offset from which on rows are missing.
    """

    def __init__(self, ownership: Ownership, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        self.lost: dict[str, int] = {}
        self._ends: dict[int, dict[str, int]] = {}
        self._places: dict[tuple[str, int], str] = {}
        self._stores = {number: ownership.partitions[number].stores for number in {tp.partition for tp in offsets}}
        for number, stores in self._stores.items():
            self._ends[number] = {table: store.changelog_end for table, store in stores.items()}
            self._places.update(((ownership.changelog_of(table), number), table) for table in stores)

    def follow(self, outputs: Sequence[tuple[str, int, BatchBuilder]], answers: Sequence[RecordMetadata]) -> None:
        """Take in the offsets that the broker gave to the batches of a step."""
        for (topic, number, builder), answer in zip(outputs, answers, strict=True):
            table = self._places.get((topic, number))
            if table is None or answer.offset < 0:  # a batch that was sent twice may be answered without its offset
                continue
            ends = self._ends[number]
            if answer.offset < ends[table]:
                self.lost[f"{topic}-{number}"] = answer.offset
                ends[table] = LOST
            else:
                ends[table] = answer.offset + builder.record_count()

    def with_offsets(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Return offsets to be committed, with the ends in their metadata."""
        told = {number: {table: end for table, end in ends.items() if end} for number, ends in self._ends.items()}
        return {
            tp: OffsetAndMetadata(one.offset, join_ends(one.metadata, told[tp.partition]))
            for tp, one in offsets.items()
        }

    def keep(self) -> None:
        """Remember the ends: the step is committed."""
        for number, stores in self._stores.items():
            for table, store in stores.items():
                store.changelog_end = self._ends[number][table]
