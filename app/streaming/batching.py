"""Batches of records: how a worker takes them from Kafka, and how a batch passes through Faust.

Faust handles single records: 127 us each, so 7,900 a second (measured 2026-10, 2 cores). Here one Faust event has a
`RecordBatch` with all fetched records of a partition, and only the agent looks at the records. They are bytes: the
agent decodes each record, so a bad record costs one record, never the batch or the worker.

A batch knows which stretch of the log it covers, `start` to `end`. Transaction markers and aborted records take
offsets but are never delivered, so only that stretch can tell a harmless gap from a lost record.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import faust
from aiokafka.consumer.fetcher import FetchResult, OffsetResetStrategy
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.types import ConsumerMessage

from app.errors import StepFailed
from app.kafka.leader_epochs import NO_EPOCH

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from aiokafka import TopicPartition
    from aiokafka.consumer.fetcher import Fetcher
    from aiokafka.structs import ConsumerRecord
    from faust.types import TP

_out_of_range: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""By aiokafka's state of a partition the position that its log did not have."""


class RecordBatch(NamedTuple):
    """Consecutive committed records of one partition.

    `start` is the offset that was asked for, `end` the one to go on from (exclusive); `records` holds what is between
    them, in order, and may be empty. `assignment` is the group assignment under which it was fetched, by identity.
    `first_epoch` and `leader_epoch` are the leader epochs under which its first and its last record were written
    (`leader_epochs`).
    """

    topic: str
    partition: int
    records: list[ConsumerRecord]
    start: int
    end: int
    assignment: object
    first_epoch: int = NO_EPOCH
    leader_epoch: int = NO_EPOCH

    def since(self, offset: int) -> RecordBatch:
        """Return the batch without the records below `offset`."""
        if offset <= self.start:
            return self
        records = [record for record in self.records if record.offset >= offset]
        return self._replace(records=records, start=offset, end=max(self.end, offset))


class BatchSchema(faust.Schema):
    """Hands a `RecordBatch` through to the agent untouched."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> None:
        """Return no key: a batch has many."""

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> RecordBatch:
        """Return the batch itself."""
        batch: RecordBatch = message.value
        return batch


def faust_message_of(batch: RecordBatch, tp: TP, generation: int) -> ConsumerMessage:
    """Wrap a batch as the one Faust message that carries it; its offset is the last one covered."""
    no_timestamp, no_headers, no_checksum, no_size = 0.0, None, None, 0
    return ConsumerMessage(
        batch.topic,
        batch.partition,
        batch.end - 1,
        no_timestamp,
        0,
        no_headers,
        None,
        batch,
        no_checksum,
        no_size,
        no_size,
        tp,
        generation_id=generation,
    )


async def take_batches(
    fetcher: Fetcher, assignment: Any, wanted: AbstractSet[TopicPartition], *, timeout_s: float, max_records: int
) -> list[RecordBatch]:
    """Take at most `max_records` fetched records of the `wanted` partitions; waits up to `timeout_s` for some.

    The same as aiokafka's `Fetcher.fetched_records`, which drops the stretch of offsets that a batch covers, returns
    every partition when none is wanted, and blocks while a rebalance goes on. Runs in the consumer's own event loop.
    """
    taken = _take_fetched(fetcher, assignment, wanted, max_records)
    if taken or not assignment.active:
        return taken
    waiter = fetcher._create_fetch_waiter()  # noqa: SLF001  # aiokafka has no public way to wait for a fetch
    done, _ = await asyncio.wait([waiter], timeout=timeout_s)
    if not done:
        waiter.cancel()
        return []
    waiter.result()
    return _take_fetched(fetcher, assignment, wanted, max_records)


def wake_takers(fetcher: Fetcher) -> None:
    """Let `take_batches` look again, for a caller that wants more partitions than before.

    Without it, records that are already fetched wait until the next fetch returns records, up to a second: at full load
    all partitions are fetched, so no fetch returns any. Runs in the consumer's own event loop.
    """
    for waiter in list(fetcher._fetch_waiters):  # noqa: SLF001  # see take_batches
        fetcher._notify(waiter)  # noqa: SLF001  # see take_batches


def _take_fetched(
    fetcher: Fetcher, assignment: Any, wanted: AbstractSet[TopicPartition], max_records: int
) -> list[RecordBatch]:
    batches: list[RecordBatch] = []
    fetched = fetcher._records  # noqa: SLF001  # see take_batches
    for tp in list(fetched):
        if tp not in wanted or not assignment.active:
            continue
        result = fetched[tp]
        if not isinstance(result, FetchResult):
            if batches:
                # The error is raised at the next call: first these records, which are gone from the fetcher.
                break
            del fetched[tp]
            fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001  # see take_batches
            _check(result, tp, assignment.state_value(tp))
            continue
        fits = result.check_assignment(tp)
        start = assignment.state_value(tp).position if fits else 0
        # A result that a seek has passed by has let go of its records; to ask for them would raise.
        unpacked = result._partition_records  # noqa: SLF001  # our own `Unpacking`
        records = result.getall(max_records) if fits else []
        if not result.has_more():
            del fetched[tp]
            fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001  # see take_batches
        if not fits:
            continue
        end = assignment.state_value(tp).position
        if _out_of_range:
            _check_start(tp, assignment.state_value(tp), start)
        if end > start:
            epochs = unpacked.first_epoch, unpacked.leader_epoch
            batches.append(RecordBatch(tp.topic, tp.partition, records, start, end, assignment, *epochs))
        max_records -= len(records)
        if max_records <= 0:
            break
    return batches


def _check(failed: Any, tp: TopicPartition, state: Any) -> None:
    """Raise the error of a fetch, unless it only says that the log does not have the position.

    Then the partition begins with its first record: where nothing was ever committed (also after a rebalance), and
    where the log begins above the position (`admit` judges whether records are missing). If it ends below, the broker
    has lost records, and has given their offsets to others since: `_check_start` sees that as soon as one comes.
    """
    try:
        failed.check_raise()
    except NoOffsetForPartitionError:
        if not state.has_valid_position:
            state.await_reset(OffsetResetStrategy.EARLIEST)
    except OffsetOutOfRangeError as error:
        (offsets,) = error.args
        # Else the claim has sought since.
        if state.has_valid_position and offsets[tp] == state.position:
            _out_of_range[state] = state.position
            state.await_reset(OffsetResetStrategy.EARLIEST)


def _check_start(tp: TopicPartition, state: Any, start: int) -> None:
    """Raise `StepFailed` if the log of a partition did not have its position and now has records below it."""
    position = _out_of_range.pop(state, -1)
    if start <= position:
        raise StepFailed(
            f"{tp.topic}-{tp.partition} was read up to offset {position}, but it has other records from {start} on: "
            "the broker has lost records"
        )
