"""Following the events as they are committed: how far the system is, without asking the system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from app.kafka.groups import read_committed
from app.names import BARE, LEDGER_TABLE
from app.rules.ledger_rows import decode_row
from app.rules.table_rows import why_no_row
from app.streaming.offset_notes import NOTE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from app.names import Names

_MAX_RECORDS = 1_000
_FIELDS = [("type", str), ("task_id", str), ("worker", str, "")]
_TYPE_OF = msgspec.json.Decoder(msgspec.defstruct("Event", _FIELDS)).decode


async def lag_of(bootstrap: str, group_id: str, topics: list[str], partition_count: int) -> int:
    """Return how many committed records of topics a group has not committed yet, whatever hangs elsewhere."""
    partitions = [TopicPartition(topic, number) for topic in topics for number in range(partition_count)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    async with consumer:
        await admin.start()
        try:
            ends = await consumer.end_offsets(partitions)
            committed = await read_committed(admin, group_id, partitions)
        finally:
            await admin.close()
    return sum(ends[tp] - max(0, committed[tp]) for tp in partitions)


class Follower:
    """Counts finished tasks (from `task-events`) and finished objects (from the ledger's changelog)."""

    def __init__(self, bootstrap: str, partition_count: int, names: Names = BARE) -> None:
        self._names = names
        self.finished_tasks: set[str] = set()
        self.started_tasks: set[str] = set()
        self.starters: set[str] = set()
        self.dead_tasks: set[str] = set()
        self.cancelled_tasks: set[str] = set()
        self.finished_objects: set[str] = set()
        self._partitions = [
            TopicPartition(topic, n)
            for topic in (names.task_events, names.ledger_changelog)
            for n in range(partition_count)
        ]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        await self._consumer.seek_to_beginning(*self._partitions)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def look(self, enough: Callable[[], bool] = lambda: False) -> bool:
        """Take in what was committed since the last look, until it is enough; returns whether it is.

        Not further: where records come faster than this process reads, there is always one more, and a fault that waits
        for "some tasks" would come when all of them are done.
        """
        while not enough():
            fetched = await self._consumer.getmany(timeout_ms=20, max_records=_MAX_RECORDS)
            if not fetched:
                return enough()
            for tp, records in fetched.items():
                for record in records:
                    self._note(tp.topic, record.key, record.value)
        return True

    async def catch_up(self) -> None:
        """Take in everything that is committed by now, however long that takes this process."""
        ends = await self._consumer.end_offsets(self._partitions)

        async def is_there() -> bool:
            return not [tp for tp in self._partitions if await self._consumer.position(tp) < ends[tp]]

        while not await is_there():
            await self.look()

    async def has_finished_objects(self, count: int) -> bool:
        """Look, and return whether at least `count` objects are finished in the ledger."""
        return await self.look(lambda: len(self.finished_objects) >= count)

    async def has_finished_tasks(self, count: int) -> bool:
        """Look, and return whether at least `count` tasks are finished."""
        return await self.look(lambda: len(self.finished_tasks) >= count)

    async def has_ended_tasks(self, count: int) -> bool:
        """Look, and return whether at least `count` tasks are finished, dead or cancelled."""
        return await self.look(lambda: len(self.finished_tasks | self.dead_tasks | self.cancelled_tasks) >= count)

    async def has_started_tasks(self, count: int) -> bool:
        """Look, and return whether at least `count` tasks have started."""
        return await self.look(lambda: len(self.started_tasks) >= count)

    def _note(self, topic: str, key: bytes, value: bytes | None) -> None:
        if topic == self._names.ledger_changelog:
            # A test may have written what is no row.
            is_row = key != NOTE_KEY and value is not None and not why_no_row(LEDGER_TABLE, key, value)
            if is_row and decode_row(value).finished_at_ms:
                self.finished_objects.add(key.decode())
            return
        try:
            event = _TYPE_OF(value)
        except (msgspec.DecodeError, TypeError):
            return
        tasks_of = {
            "TASK_STARTED": self.started_tasks,
            "TASK_FINISHED": self.finished_tasks,
            "TASK_DEAD": self.dead_tasks,
            "TASK_CANCELLED": self.cancelled_tasks,
        }
        if event.type == "TASK_STARTED":
            self.starters.add(event.worker)
        if event.type in tasks_of:
            tasks_of[event.type].add(event.task_id)
