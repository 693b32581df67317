"""The retry ladder over topics in memory: due times, restarts, cancels, records that cannot be read."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from aiokafka import TopicPartition
from engine_bench import NOW_MS, request
from fakes import FakeStream, FakeWorker, settle, until
from plain_names import DEAD_LETTERS, TASK_EVENTS, TASK_REQUESTS, retry_topic

from agents.engine.retry_ladder import RetryLadder
from agents.engine.worker_lanes import WorkerLanes
from app.events import TaskCancelled, decode_task_event, decode_task_request, encode
from app.names import BARE
from app.rules.control import ControlState
from app.rules.offsets import PartitionProgress
from app.rules.worker_heartbeats import RetryTier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TIERS = (retry_topic(1), retry_topic(10))


def real_now_ms() -> int:
    """Return the time of the machine."""
    return time.time_ns() // 1_000_000


def waiting(name: str, in_ms: int, now_ms: int = NOW_MS) -> bytes:
    """Return a retry that is due in some milliseconds."""
    task = decode_task_request(request(name, attempt=2))
    return encode(msgspec.structs.replace(task, due_at_ms=now_ms + in_ms))


class Bench:
    """A ladder at work; its time stands still until a test moves `now_ms`, and it looks at it when its timers end."""

    def __init__(self, clock_ms: Callable[[], int] | None = None) -> None:
        self.now_ms = NOW_MS
        self.worker = FakeWorker(*TIERS)
        self.control = ControlState()
        self.stream = FakeStream()
        self.clock_ms = clock_ms = clock_ms or (lambda: self.now_ms)
        self.lanes = WorkerLanes(
            self.worker.transactions, names=BARE, commit_interval_s=0, gather_s=0, clock_ms=clock_ms
        )
        self.set_back_ms = 0
        self.ladder = RetryLadder(
            self.lanes,
            topics=TIERS,
            control=self.control,
            max_waiting=4,
            clock_ms=lambda: clock_ms() - self.set_back_ms,
            steady_ms=clock_ms,
        )
        self.running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read."""
        await self.worker.start()
        self.running = asyncio.create_task(self.ladder.run(self.stream))
        self.committing = asyncio.create_task(self.lanes.commit_forever())

    async def stop(self) -> None:
        """Stop as if the process were killed."""
        for number in list(self.worker.ownership.partitions):
            self.worker.ownership.take_away(number)
        self.stream.close()
        assert self.running is not None
        await self.running
        self.committing.cancel()

    def put(self, topic: str, partition: int, *values: bytes, start: int = 0, ahead_ms: int = 0) -> None:
        """Deliver retries that were written just now, by a clock that is ahead."""
        taken = self.worker.batch(partition, values, start=start, topic=topic)
        stamp_ms = self.clock_ms() + ahead_ms
        self.stream.put(taken._replace(records=[replace(one, timestamp=stamp_ms) for one in taken.records]))

    def forwarded(self) -> list[str]:
        """Return the objects whose retry went back to `task-requests`, in order."""
        sent = self.worker.producer.sent_to(TASK_REQUESTS)
        return [decode_task_request(one.value or b"").object_id for one in sent]

    def committed(self, topic: str, partition: int = 0) -> tuple[int, str]:
        """Return the committed offset and metadata of a tier's partition."""
        committed = self.worker.producer.offsets[TopicPartition(topic, partition)]
        return committed.offset, committed.metadata

    async def forwards(self, count: int) -> None:
        """Wait until that many retries were forwarded."""
        async with asyncio.timeout(30):
            while len(self.forwarded()) < count:
                await self.lanes.wait_quiet()


@asynccontextmanager
async def at_work(one: Bench) -> AsyncIterator[Bench]:
    """Let a ladder own partition 0 of its tiers."""
    await one.start()
    one.worker.ownership.give(0)
    yield one
    await one.stop()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Return a ladder whose time is the test's."""
    async with at_work(Bench()) as one:
        yield one


@pytest.fixture
async def timed_bench() -> AsyncIterator[Bench]:
    """Return a ladder that goes by the machine's time."""
    async with at_work(Bench(real_now_ms)) as one:
        yield one


async def test_retry_of_a_worker_whose_clock_is_ahead_waits_as_long_as_was_meant(bench):
    """Not until that instant of ours: its task would wait for years."""
    year_ms = 365 * 86_400_000
    bench.put(TIERS[0], 0, waiting("a", 0, NOW_MS + year_ms), ahead_ms=year_ms)
    await bench.forwards(1)
    assert ["a"] == bench.forwarded()


async def test_retry_is_forwarded_when_due_and_never_early(timed_bench):
    """As it is, to its own partition, and committed as finished."""
    bench = timed_bench
    value = waiting("a", 60, real_now_ms())
    due_at_ms = decode_task_request(value).due_at_ms
    bench.put(TIERS[0], 0, value)
    await bench.forwards(1)
    assert due_at_ms <= real_now_ms() < due_at_ms + 20_000
    (sent,) = bench.worker.producer.sent_to(TASK_REQUESTS)
    assert (0, value) == (sent.partition, sent.value)
    await until(lambda: bench.committed(TIERS[0]) == (1, ""))


async def test_what_is_due_first_goes_first(bench):
    """Whatever its tier and its place on it: nothing waits for the earliest record of its topic."""
    bench.put(TIERS[0], 0, waiting("late", in_ms=90), waiting("soon", in_ms=30))
    bench.put(TIERS[1], 0, waiting("next", in_ms=60))
    await until(lambda: bench.ladder.waiting_count == 3)
    expected = ["soon", "next", "late"]
    for count in (1, 2, 3):
        bench.now_ms += 30
        await bench.forwards(count)
        assert expected[:count] == bench.forwarded()


async def test_restart_forwards_exactly_what_was_not(bench):
    """The commit tells what is done above the watermark; the rest is read and waits again."""
    bench.put(TIERS[0], 0, waiting("late", in_ms=60_000), waiting("soon", in_ms=10))
    await until(lambda: bench.ladder.waiting_count == 2)
    bench.now_ms += 10
    await bench.forwards(1)
    await until(lambda: bench.committed(TIERS[0])[0] == 0)
    progress = PartitionProgress(*bench.committed(TIERS[0]))
    assert [True, False] == [progress.take(0), progress.take(1)]


async def test_lost_partition_is_forgotten(bench):
    """Its retries wait at its next owner now; what comes back is read anew."""
    bench.put(TIERS[0], 0, waiting("a", in_ms=40))
    await until(lambda: bench.ladder.waiting_count == 1)
    bench.worker.ownership.take_away(0)
    assert 0 == bench.ladder.waiting_count
    bench.worker.ownership.give(0)
    bench.put(TIERS[0], 0, waiting("a", in_ms=20))
    await until(lambda: bench.ladder.waiting_count == 1)
    bench.now_ms += 40
    await bench.forwards(1)
    await settle()
    assert ["a"] == bench.forwarded()


async def test_cancelled_retry_ends_at_once(bench):
    """TASK_CANCELLED, and it does not come back."""
    bench.put(TIERS[0], 0, waiting("a", in_ms=60_000))
    await until(lambda: bench.ladder.waiting_count == 1)
    bench.control.apply(b"cancel:object:a", b'{"type":"CANCEL","object_id":"a","at_ms":1}')
    bench.ladder.control_changed()
    await until(lambda: bench.worker.producer.sent_to(TASK_EVENTS))
    (sent,) = bench.worker.producer.sent_to(TASK_EVENTS)
    assert isinstance(decode_task_event(sent.value), TaskCancelled)
    await until(lambda: bench.committed(TIERS[0]) == (1, ""))


async def test_record_that_is_no_retry_is_buried(bench):
    """The next one does not wait for it."""
    bench.put(TIERS[0], 0, b"no json", waiting("a", in_ms=0))
    await bench.forwards(1)
    (letter,) = bench.worker.producer.sent_to(DEAD_LETTERS)
    assert b"no json" == letter.value


async def test_retry_that_its_topic_does_not_take_is_buried(bench):
    """Compressed it got in; the next one does not wait for it."""
    large = waiting("a", in_ms=0).replace(b"some content", b"x" * 1_100_000)
    bench.put(TIERS[0], 0, large, waiting("b", in_ms=0))
    await bench.forwards(1)
    assert ["b"] == bench.forwarded()
    await until(lambda: bench.committed(TIERS[0]) == (2, ""))
    (letter,) = bench.worker.producer.sent_to(DEAD_LETTERS)
    assert b"task-requests takes at most" in dict(letter.headers)["kafka_dlt-exception-message"]


async def test_many_waiting_retries_pause_their_fetching(bench):
    """What waits in memory is bounded, and goes on when it has shrunk."""
    bench.put(TIERS[0], 0, *(waiting(f"a{number}", in_ms=50) for number in range(6)))
    await until(lambda: bench.worker.ownership.held == {TopicPartition(TIERS[0], 0)})
    bench.now_ms += 50
    await bench.forwards(6)
    assert frozenset() == bench.worker.ownership.held


async def test_depth_and_next_due_are_reported_for_each_tier(bench):
    """Each tier says how many wait and when the first is due; one without any says so."""
    bench.put(TIERS[1], 0, waiting("late", in_ms=90_000), waiting("soon", in_ms=60_000))
    await until(lambda: bench.ladder.waiting_count == 2)
    empty, full = bench.ladder.tiers()
    assert RetryTier(TIERS[0], 0, None) == empty
    assert RetryTier(TIERS[1], 2, NOW_MS + 60_000) == full


async def test_clock_that_is_set_back_holds_nothing_up(bench):
    """What waits would be due a day later; what comes then goes by the clock as it is."""
    bench.put(TIERS[0], 0, waiting("a", in_ms=40), waiting("b", in_ms=90_000))
    await settle()
    assert [] == bench.forwarded()
    bench.set_back_ms = 86_400_000
    bench.now_ms += 50
    await bench.forwards(1)
    bench.now_ms += 90_000
    bench.put(TIERS[0], 0, waiting("c", in_ms=-86_400_000), start=2)
    await bench.forwards(3)
    assert {"a", "b", "c"} == set(bench.forwarded())
