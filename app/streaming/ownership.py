"""The partitions of a worker, each with committed offsets and table stores, from claim to release.

A claim after a rebalance is quick, so that it never blocks the group: partitions that stay with the worker continue at
once. New partitions are closed until they are restored in the background (stable offsets, then tables, then a seek),
even if more rebalances happen meanwhile. So a restore of minutes does not affect other workers, nor the session.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from app.kafka.abandoned_transactions import end_abandoned_transactions, living_members
from app.streaming.foreign_rows import ForeignRecords, refuse, row_check
from app.streaming.group_positions import GroupPositions, read_positions
from app.streaming.offset_notes import check_ends, check_tables, starting_point
from app.streaming.partition import Partition
from app.streaming.restore import RestoreProgress, restore_stores
from app.streaming.stores import StoreMemory, TableStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import NoReturn

    from aiokafka.client import AIOKafkaClient

    from app.kafka.cluster import Cluster
    from app.kafka.fencing import Membership
    from app.streaming.input_reader import InputReader
    from app.streaming.offset_notes import OffsetNote
    from app.streaming.partition import PartitionObserver
    from app.streaming.tables import TransactionalTable
    from app.streaming.workspace import Workspace

log = logging.getLogger(__name__)

_RESTORE_STALL_S = 60.0


class Ownership:
    """The partitions of one worker; `aborted_count`: transactions of workers that are gone, which this one ended.

    `notes_table` names the table that keeps where the group is (`offset_notes`); without it lost offsets go unnoticed.
    `why_no_row` says why a record of a table's changelog is no row of it, "" if it is one (`foreign_rows`).
    `topic_ids` are those of the input topics from the first claim on, `cluster_id` is that of their cluster.
    `leader_epochs` are those of the records that were taken last (`app.kafka.leader_epochs`).

    Guarantee: a partition is active only between a restore that read everything its former owner committed, and the
    first moment at which another worker can own it. Source: KIP-447, and the fault runs in
    `docs/explanation/exactly-once.md`.
    """

    def __init__(
        self,
        *,
        group_id: str,
        input_topics: Sequence[str],
        tables: Callable[[], Iterable[TransactionalTable]],
        stores: Workspace,
        cluster: Cluster,
        fatal: Callable[[BaseException], NoReturn],
        notes_table: str = "",
        why_no_row: Callable[[str, bytes | None, bytes | None], str] = lambda _table, _key, _value: "",
    ) -> None:
        self.group_id = group_id
        self.notes_table = notes_table
        self._why_no_row = why_no_row
        self.topic_ids: dict[str, str] = {}
        self.cluster_id = ""
        self.input_topics = tuple(input_topics)
        self.leader_epochs: dict[TopicPartition, int] = {}
        self.partitions: dict[int, Partition] = {}
        self.membership: Membership | None = None
        self.assignment: object = None
        self.observers: list[PartitionObserver] = []
        self.reader: InputReader | None = None
        self.restoring: list[RestoreProgress] = []
        self.aborted_count = 0
        self._tables = tables
        self._stores = stores
        self._store_count = 0
        self._memory: StoreMemory | None = None
        self._cluster = cluster
        self._fatal = fatal
        self._suspended = False
        self._held: frozenset[TopicPartition] = frozenset()
        self._restores: set[asyncio.Task[None]] = set()

    @property
    def is_suspended(self) -> bool:
        """Whether a rebalance goes on, or the worker stops."""
        return self._suspended

    def owned_inputs(self) -> list[TopicPartition]:
        """Return the input partitions of this worker, including those that are not restored yet."""
        return [TopicPartition(topic, number) for number in self.partitions for topic in self.input_topics]

    def changelog_of(self, table: str) -> str:
        """Return the changelog topic of a table."""
        return f"{self.group_id}-{table}-changelog"

    def suspend(self) -> None:
        """Take no more records: a rebalance has begun."""
        self._suspended = True
        self._publish()

    def claim(self, numbers: Iterable[int], membership: Membership, assignment: object, client: AIOKafkaClient) -> None:
        """Take over a new assignment: keep the partitions that this worker owned without a break, claim all others.

        If the generation did not advance by exactly one, or the member id is another, the worker was away: other
        workers may have owned its partitions meanwhile, even those that it seems to have kept.
        """
        before = self.membership
        self.membership, self.assignment = membership, assignment
        if before is not None and membership != (before.generation + 1, before.member_id):
            log.warning("membership changed from %s to %s: all partitions are claimed again", before, membership)
            self._release(set(self.partitions))
        wanted = set(numbers)
        self._release(set(self.partitions) - wanted)
        claimed = [Partition(number) for number in sorted(wanted - set(self.partitions))]
        self.partitions.update((partition.number, partition) for partition in claimed)
        self._suspended = False
        self._publish()
        log.info(
            "owns partitions %s in generation %d, %d of them newly claimed",
            sorted(self.partitions),
            membership.generation,
            len(claimed),
        )
        if claimed:
            task = asyncio.create_task(self._restore_or_end(claimed, client))
            self._restores.add(task)
            task.add_done_callback(self._restores.discard)

    def hold(self, partitions: frozenset[TopicPartition]) -> None:
        """Take no records of these partitions for now (back-pressure), whatever was held before is let go."""
        self._held = partitions
        self._publish()

    async def stop(self) -> None:
        """Release everything."""
        self.suspend()
        for task in list(self._restores):
            task.cancel()
        await asyncio.gather(*self._restores, return_exceptions=True)
        self._release(set(self.partitions))

    def _publish(self) -> None:
        if self.reader is None:
            return
        numbers = () if self._suspended else [number for number, one in self.partitions.items() if one.active]
        wanted = frozenset(TopicPartition(topic, number) for number in numbers for topic in self.input_topics)
        self.reader.open_partitions(wanted - self._held)

    def _release(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            partition = self.partitions.pop(number)
            if partition.active:
                partition.active = False
                for observer in self.observers:
                    observer.partition_lost(partition)
            for table in self._tables():
                if table.stores.get(number) is partition.stores.get(table.name):
                    table.stores.pop(number, None)
            for store in partition.stores.values():
                store.close()

    def _owns(self, partition: Partition) -> bool:
        return self.partitions.get(partition.number) is partition

    async def _restore_or_end(self, partitions: Sequence[Partition], client: AIOKafkaClient) -> None:
        progress = RestoreProgress(len(partitions))
        self.restoring.append(progress)
        try:
            await self._restore(partitions, client, progress)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever it is: a partition that cannot be restored ends us
            self._fatal(error)
        finally:
            self.restoring.remove(progress)

    async def _restore(
        self, partitions: Sequence[Partition], client: AIOKafkaClient, progress: RestoreProgress
    ) -> None:
        loop = asyncio.get_running_loop()
        began_at_s = loop.time()
        positions = await self._read_positions(partitions, client)
        owned = [partition for partition in partitions if self._owns(partition)]
        if positions is None or not owned:
            return
        targets = {}
        for table in self._tables():
            for partition in owned:
                store = partition.stores[table.name] = self._new_store(table, partition.number)
                targets[TopicPartition(table.changelog_name, partition.number)] = store
        by_number = {partition.number: partition for partition in owned}
        foreign = ForeignRecords()
        row_count = await restore_stores(
            self._cluster,
            targets,
            wanted=lambda tp: self._owns(by_number[tp.partition]),
            told_ends={
                TopicPartition(table.changelog_name, number): end
                for number in by_number
                for table in self._tables()
                if (end := positions.told_ends[number].get(table.name)) is not None
            },
            check_ends=lambda: self._check_ends(owned, positions),
            stall_timeout_s=_RESTORE_STALL_S,
            progress=progress,
            foreign=foreign,
        )
        owned = [partition for partition in owned if self._owns(partition)]
        refuse(foreign.of(partition.number for partition in owned), self.group_id)
        await self._activate(owned, self._starting_points(owned, positions))
        log.info(
            "partitions %s are ready: %d rows restored in %.2f s",
            [partition.number for partition in owned],
            row_count,
            loop.time() - began_at_s,
        )

    async def _read_positions(self, partitions: Sequence[Partition], client: AIOKafkaClient) -> GroupPositions | None:
        """Read all that says where to begin, None if all partitions went away; the topics' ids are those for good."""
        assert self.reader is not None
        inputs = [TopicPartition(topic, one.number) for one in partitions for topic in self.input_topics]

        async def end_abandoned() -> None:
            self.aborted_count += len(await end_abandoned_transactions(client, self.group_id))

        positions = await read_positions(
            client,
            self.reader,
            self.group_id,
            inputs,
            known_ids=self.topic_ids,
            is_wanted=lambda: any(self._owns(partition) for partition in partitions),
            end_abandoned=end_abandoned,
        )
        if positions is not None:
            self.topic_ids, self.cluster_id = dict(positions.topic_ids), positions.cluster_id
            members = await living_members(client, self.group_id)
            for partition in partitions:
                partition.members = members
        return positions

    def _starting_points(self, partitions: Sequence[Partition], positions: GroupPositions) -> dict[TopicPartition, int]:
        """Set each partition's offsets, now that its tables tell, too; returns where to read from."""
        starts = {}
        for partition in partitions:
            notes = partition.offset_notes = self._check_tables(partition, positions)
            for topic in self.input_topics:
                tp = TopicPartition(topic, partition.number)
                start = starting_point(
                    tp,
                    positions.committed[tp],
                    notes.get(topic),
                    group_id=self.group_id,
                    topic_id=positions.topic_ids[topic],
                    cluster_id=positions.cluster_id,
                    log=positions.logs[tp],
                    kept_to=positions.kept_to[tp],
                )
                if start.said:
                    log.error("%s", start.said)
                starts[tp] = partition.next_offsets[topic] = start.offset
                partition.metadata[topic] = start.metadata
                partition.ends[topic] = positions.logs[tp].stop
                partition.kept_to[topic] = positions.kept_to[tp]
                self.leader_epochs[tp] = positions.committed[tp].leader_epoch
        return starts

    def _check_ends(self, partitions: Sequence[Partition], positions: GroupPositions) -> None:
        for partition in partitions:
            ends = {table: store.changelog_end for table, store in partition.stores.items()}
            check_ends(partition.number, positions.told_ends[partition.number], ends, group_id=self.group_id)

    def _check_tables(self, partition: Partition, positions: GroupPositions) -> dict[str, OffsetNote]:
        if self.notes_table not in partition.stores:
            return {}
        return check_tables(
            partition.number,
            {self.changelog_of(table): store.note for table, store in partition.stores.items()},
            {topic: positions.committed[TopicPartition(topic, partition.number)] for topic in self.input_topics},
            notes_changelog=self.changelog_of(self.notes_table),
            group_id=self.group_id,
            topic_ids=positions.topic_ids,
        )

    async def _activate(self, partitions: Sequence[Partition], starts: Mapping[TopicPartition, int]) -> None:
        assert self.reader is not None
        numbers = {partition.number for partition in partitions}
        await self.reader.seek_to({tp: offset for tp, offset in starts.items() if tp.partition in numbers})
        for partition in partitions:
            if not self._owns(partition):
                continue
            partition.active = True
            for table in self._tables():
                table.stores[partition.number] = partition.stores[table.name]
            for observer in self.observers:
                observer.partition_ready(partition)
        self._publish()

    def _new_store(self, table: TransactionalTable, number: int) -> TableStore:
        # Every store gets a directory of its own: rocksdb may hold the lock of a closed one for a moment.
        self._store_count += 1
        self._memory = self._memory or StoreMemory()
        check = row_check(table.name, self._why_no_row, keeps_offsets=table.name == self.notes_table)
        path = self._stores.path / f"{table.name}-{number}-{self._store_count}"
        return TableStore(path, self._memory, check, recent_rows=table.recent_rows)
