"""`RecordReader`: the consumer for all our readers; no record on a topic can stop it.

aiokafka unpacks records inside its fetcher, so its two classes for this are replaced where the fetcher looks them up
(`unpacking`). The agents get a record that cannot be unpacked as an `UnreadableRecord` (`batching`). Other readers skip
it, and it is logged.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher

from app.kafka.refusals import Refusals
from app.kafka.unpacking import Fetched, Unpacking
from app.kafka.unreadable import UnreadableRecord
from app.telemetry.quiet_log import Alike, alike_before

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiokafka import TopicPartition
    from aiokafka.structs import ConsumerRecord

log = logging.getLogger(__name__)

fetcher.MemoryRecords = Fetched
fetcher.PartitionRecords = Unpacking

_SILENCE_S = 1.0
_alike = Alike(_SILENCE_S)


class RecordReader(AIOKafkaConsumer):
    """An aiokafka consumer that skips records that cannot be unpacked; its options are aiokafka's.

    Of the topics `whole` it hands out that, too, as `UnreadableRecord`s. `refusals` is what the broker cannot read.
    """

    def __init__(self, *, whole: Iterable[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self._whole = frozenset(whole)
        self.refusals = Refusals()
        self.refusals.watch(self._client)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Return the fetched records by partition, without empty partitions."""
        fetched = await super().getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        read = {tp: self._without_unreadable(tp, records) for tp, records in fetched.items()}
        return {tp: records for tp, records in read.items() if records}

    async def getone(self, *partitions: TopicPartition) -> ConsumerRecord:
        """Return the next record; also what `async for` takes."""
        while True:
            record: ConsumerRecord = await super().getone(*partitions)
            if type(record) is not UnreadableRecord or record.topic in self._whole:
                return record
            _tell(record)

    def _without_unreadable(self, tp: TopicPartition, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        if tp.topic in self._whole:
            return records
        for record in records:
            if type(record) is UnreadableRecord:
                break
        else:
            return records
        for record in records:
            if type(record) is UnreadableRecord:
                _tell(record)
        return [record for record in records if type(record) is not UnreadableRecord]


def place_of(record: UnreadableRecord) -> str:
    """Return where something that cannot be unpacked lies, for people."""
    offsets = f"{record.offset}" if record.last_offset == record.offset else f"{record.offset} to {record.last_offset}"
    return f"{record.topic}-{record.partition}@{offsets}"


def _tell(record: UnreadableRecord) -> None:
    untold_count = _alike.untold_before((record.topic, str(record.error)), time.monotonic())
    if untold_count is not None:
        log.error(
            "%s cannot be unpacked and is skipped: %s%s", place_of(record), record.error, alike_before(untold_count)
        )
