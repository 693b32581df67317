"""Batches: the stretch of the log that they cover, and how they are taken from aiokafka's fetcher."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchError, FetchResult, OffsetResetStrategy
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError, TopicAuthorizationFailedError
from fakes import batch, record
from faust.types import TP

from app.errors import StepFailed
from app.streaming.batching import BatchSchema, faust_message_of, take_batches, wake_takers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiokafka.structs import ConsumerRecord

    from app.streaming.batching import RecordBatch

A, B, C = (TopicPartition("in", number) for number in range(3))


class FakeLog:
    """What a fetch response holds of a partition: records up to `end`, where markers may follow them."""

    def __init__(self, tp: TopicPartition, start: int, offsets: Iterable[int], end: int) -> None:
        self.next_fetch_offset = start
        self.first_epoch, self.leader_epoch = 3, 4
        self._records = self._iterate(tp, list(offsets), end)

    def _iterate(self, tp: TopicPartition, offsets: list[int], end: int) -> Iterator[ConsumerRecord]:
        for offset in offsets:
            self.next_fetch_offset = offset + 1
            yield record(tp.topic, tp.partition, offset, b"value")
        self.next_fetch_offset = end

    def __iter__(self) -> FakeLog:
        return self

    def __next__(self) -> ConsumerRecord:
        return next(self._records)


class FakeFetcher:
    """The part of aiokafka's fetcher that `take_batches` uses; results are aiokafka's own."""

    def __init__(self, *tps: TopicPartition) -> None:
        self.assignment = Assignment(list(tps))
        for tp in tps:
            self.assignment.state_value(tp).await_reset(0)
            self.assignment.state_value(tp).reset_to(0)
        self._records: dict[TopicPartition, Any] = {}
        self._wait_consume_future = None
        self.waiter: asyncio.Future[None] | None = None
        self._fetch_waiters: set[asyncio.Future[None]] = set()
        self.notified = 0

    def fetched(self, tp: TopicPartition, offsets: Iterable[int], *, start: int = 0, end: int) -> None:
        """Have records of a partition ready."""
        log: Any = FakeLog(tp, start, offsets, end)
        self._records[tp] = FetchResult(tp, assignment=self.assignment, partition_records=log, backoff=0)

    def failed(self, tp: TopicPartition, error: Exception) -> None:
        """Have an error of a partition ready."""
        self._records[tp] = FetchError(error=error, backoff=0)

    async def begin_anew(self, tp: TopicPartition, position: int, *, at: int) -> None:
        """Have a log that does not have a position, and begins elsewhere."""
        state = self.assignment.state_value(tp)
        state.seek(position)
        self.failed(tp, OffsetOutOfRangeError({tp: position}))
        assert [] == await self.take(tp)
        assert OffsetResetStrategy.EARLIEST == state.reset_strategy
        state.reset_to(at)

    def position_of(self, tp: TopicPartition) -> int:
        """Return where the consumer would go on."""
        position: int = self.assignment.state_value(tp).position
        return position

    def _notify(self, future: asyncio.Future[None] | None) -> None:
        self.notified += 1
        if future is not None:
            future.set_result(None)

    def _create_fetch_waiter(self) -> asyncio.Future[None]:
        self.waiter = asyncio.get_running_loop().create_future()
        self._fetch_waiters.add(self.waiter)
        self.waiter.add_done_callback(self._fetch_waiters.remove)
        return self.waiter

    async def take(self, *wanted: TopicPartition, max_records: int = 100, timeout_s: float = 0) -> list[RecordBatch]:
        """Take batches of the wanted partitions."""
        fetcher: Any = self
        return await take_batches(
            fetcher, self.assignment, frozenset(wanted), timeout_s=timeout_s, max_records=max_records
        )


def stretches(batches: list[RecordBatch]) -> list[tuple[int, int, int, list[int]]]:
    """Return of each batch partition, start, end and the offsets of its records."""
    return [(one.partition, one.start, one.end, [r.offset for r in one.records]) for one in batches]


async def test_batches_cover_records_and_markers():
    """One batch a partition; its end is behind the markers, which take offsets but are never delivered."""
    fetcher = FakeFetcher(A, B)
    fetcher.fetched(A, [0, 1, 4], end=6)
    fetcher.fetched(B, [], end=3)
    taken = await fetcher.take(A, B)
    assert [(0, 0, 6, [0, 1, 4]), (1, 0, 3, [])] == stretches(taken)
    assert all(one.assignment is fetcher.assignment for one in taken)
    assert {(3, 4)} == {(one.first_epoch, one.leader_epoch) for one in taken}
    assert (6, 3, {}, 2) == (fetcher.position_of(A), fetcher.position_of(B), fetcher._records, fetcher.notified)


async def test_nothing_is_taken_of_partitions_that_are_not_wanted():
    """What a closed or held partition has fetched waits where it is."""
    fetcher = FakeFetcher(A, B)
    fetcher.fetched(A, [0], end=1)
    fetcher.fetched(B, [0], end=1)
    assert [(1, 0, 1, [0])] == stretches(await fetcher.take(B))
    assert 0 == fetcher.position_of(A)
    assert [(0, 0, 1, [0])] == stretches(await fetcher.take(A))


async def test_no_more_is_taken_than_asked_for():
    """The rest is taken the next time, without a gap."""
    fetcher = FakeFetcher(A, B)
    fetcher.fetched(A, range(5), end=6)
    fetcher.fetched(B, range(5), end=5)
    assert [(0, 0, 3, [0, 1, 2])] == stretches(await fetcher.take(A, B, max_records=3))
    assert [(0, 3, 6, [3, 4]), (1, 0, 1, [0])] == stretches(await fetcher.take(A, B, max_records=3))
    assert [(1, 1, 5, [1, 2, 3, 4])] == stretches(await fetcher.take(A, B))


async def test_records_that_a_seek_has_passed_by_are_dropped():
    """Fetched at a position that is not the present one: they are fetched again from there."""
    fetcher = FakeFetcher(A, B)
    fetcher.fetched(A, [0, 1], end=2)
    fetcher.fetched(B, [0], end=1)
    fetcher.assignment.state_value(A).seek(1)
    assert [(1, 0, 1, [0])] == stretches(await fetcher.take(A, B))
    assert ({}, 1) == (fetcher._records, fetcher.position_of(A))


async def test_nothing_is_taken_of_an_assignment_that_is_over():
    """It does not wait either: a rebalance must not be held up."""
    fetcher = FakeFetcher(A)
    fetcher.fetched(A, [0], end=1)
    fetcher.assignment._unassign()
    assert [] == await fetcher.take(A, timeout_s=60)
    assert fetcher.waiter is None


async def test_fetch_error_is_raised_after_what_came_before_it():
    """Records that were taken already are not lost by the error of another partition."""
    fetcher = FakeFetcher(A, B, C)
    fetcher.fetched(A, [0], end=1)
    fetcher.failed(B, TopicAuthorizationFailedError("in"))
    fetcher.fetched(C, [0], end=1)
    assert [(0, 0, 1, [0])] == stretches(await fetcher.take(A, B, C))
    with pytest.raises(TopicAuthorizationFailedError):
        await fetcher.take(A, B, C)
    assert 2 == fetcher.notified
    assert [(2, 0, 1, [0])] == stretches(await fetcher.take(A, B, C))


@pytest.mark.parametrize("start", [0, 80])
async def test_log_that_restarts_below_the_position_ends_the_worker(start):
    """A broker that lost records gives their offsets to new ones: they would be dropped as worked."""
    fetcher = FakeFetcher(A)
    await fetcher.begin_anew(A, 80, at=start)
    fetcher.fetched(A, [start], start=start, end=start + 1)
    with pytest.raises(StepFailed, match=f"in-0 was read up to offset 80, but it has other records from {start} on"):
        await fetcher.take(A)


async def test_log_that_begins_above_the_position_is_read_from_its_begin():
    """Its first records were deleted: whether any of them is missing only their agent knows."""
    fetcher = FakeFetcher(A)
    await fetcher.begin_anew(A, 80, at=90)
    fetcher.fetched(A, [90], start=90, end=91)
    fetcher.fetched(B, [], end=0)
    assert [(0, 90, 91, [90])] == stretches(await fetcher.take(A))
    fetcher.fetched(A, [91], start=91, end=92)
    assert [(0, 91, 92, [91])] == stretches(await fetcher.take(A))


@pytest.mark.parametrize("error", [OffsetOutOfRangeError({A: 80}), NoOffsetForPartitionError(A)])
async def test_error_of_a_former_position_is_dropped(error):
    """The claim has sought since."""
    fetcher = FakeFetcher(A)
    fetcher.assignment.state_value(A).seek(3)
    fetcher.failed(A, error)
    assert ([], {}) == (await fetcher.take(A), fetcher._records)


async def test_partition_without_a_committed_offset_begins_with_its_first_record():
    """Also one that was kept through a rebalance before its first commit: nobody seeks for it then."""
    fetcher = FakeFetcher(A)
    fetcher.assignment = Assignment([A])
    fetcher.failed(A, NoOffsetForPartitionError(A))
    assert ([], {}) == (await fetcher.take(A), fetcher._records)
    assert OffsetResetStrategy.EARLIEST == fetcher.assignment.state_value(A).reset_strategy


async def test_waits_for_a_fetch_and_takes_it():
    """As soon as it is there."""
    fetcher = FakeFetcher(A)
    taking = asyncio.create_task(fetcher.take(A, timeout_s=60))
    await asyncio.sleep(0)
    assert fetcher.waiter is not None
    fetcher.fetched(A, [0], end=1)
    fetcher.waiter.set_result(None)
    assert [(0, 0, 1, [0])] == stretches(await taking)


async def test_who_waits_looks_again_when_more_is_wanted():
    """What lies fetched of a partition that was not wanted until now is waited for by nobody else."""
    fetcher = FakeFetcher(A, B)
    fetcher.fetched(B, [0], end=1)
    taking = asyncio.create_task(fetcher.take(A, timeout_s=60))
    await asyncio.sleep(0)
    any_fetcher: Any = fetcher
    wake_takers(any_fetcher)
    assert [] == await taking
    assert [(1, 0, 1, [0])] == stretches(await fetcher.take(A, B, timeout_s=60))


async def test_gives_up_when_nothing_comes():
    """An empty list after the timeout; the waiter is let go, or each would leave one behind."""
    fetcher = FakeFetcher(A)
    assert [] == await fetcher.take(A, timeout_s=0)
    assert fetcher.waiter is not None
    assert fetcher.waiter.cancelled()


async def test_error_of_the_fetcher_is_raised_while_waiting():
    """A fetcher that cannot go on says so through its waiters."""
    fetcher = FakeFetcher(A)
    taking = asyncio.create_task(fetcher.take(A, timeout_s=60))
    await asyncio.sleep(0)
    assert fetcher.waiter is not None
    fetcher.waiter.set_exception(TopicAuthorizationFailedError("in"))
    with pytest.raises(TopicAuthorizationFailedError):
        await taking


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (0, (10, 20, [10, 12, 15])),
        (10, (10, 20, [10, 12, 15])),
        (11, (11, 20, [12, 15])),
        (15, (15, 20, [15])),
        (16, (16, 20, [])),
        (20, (20, 20, [])),
        (25, (25, 25, [])),
    ],
)
def test_since_leaves_out_what_lies_below(offset, expected):
    """The rest of a batch begins at the offset asked for, which need not be a record's."""
    whole = batch("in", 0, [record("in", 0, n, b"") for n in (10, 12, 15)], assignment=None, start=10, end=20)
    rest = whole.since(offset)
    assert expected == (rest.start, rest.end, [one.offset for one in rest.records])
    assert [10, 12, 15] == [one.offset for one in whole.records]


def test_message_carries_the_batch_through_the_schema_untouched():
    """One Faust message a batch: its offset is the last one covered, its value the batch itself."""
    whole = batch("in", 0, [record("in", 0, 10, b"\xff not json")], assignment=None, start=10, end=13)
    message = faust_message_of(whole, TP("in", 0), generation=7)
    assert (12, 7, TP("in", 0)) == (message.offset, message.generation_id, message.tp)
    schema = BatchSchema()
    assert whole is schema.loads_value(None, message)
    schema.loads_key(None, message)
