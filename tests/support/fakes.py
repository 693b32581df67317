"""What the streaming layer talks to, in memory: a producer, a worker's ownership, a stream.

`Transactions` and `Step` are the real ones in most tests: the producer here takes their real batches and reads them
back, so what a test sees is what would be on the topics after the commit.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from aiokafka import TopicPartition
from aiokafka.record import MemoryRecords
from aiokafka.structs import ConsumerRecord, RecordMetadata

from app.errors import Unreadable
from app.kafka.fencing import Membership
from app.kafka.unreadable import UnreadableRecord, unreadable_bytes, unreadable_record
from app.streaming.batching import RecordBatch
from app.streaming.partition import Partition, PartitionObserver
from app.streaming.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from aiokafka.producer.message_accumulator import BatchBuilder
    from aiokafka.structs import OffsetAndMetadata


GROUP = "ebs-test"
NOW_MS = 1_795_489_276_303


class ProcessEnded(BaseException):
    """The process would have ended here: no code after it runs, no `except Exception` sees it."""


class Fatal:
    """Ends the process by an exception, and remembers why."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def __call__(self, error: BaseException) -> NoReturn:
        """End the process."""
        self.errors.append(error)
        # Nobody awaits the task that ends here, so the garbage collector would write its error, for which Python parses
        # source. In the midst of hypothesis's own parsing Python 3.11 fails then: "AST constructor recursion depth".
        with suppress(RuntimeError):  # no loop runs
            task = asyncio.current_task()
            if task is not None:
                task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        raise ProcessEnded(str(error)) from error


def record(
    topic: str,
    partition: int,
    offset: int,
    value: bytes | None,
    *,
    key: bytes | None = None,
    timestamp_ms: int = NOW_MS,
    headers: Sequence[tuple[str, Any]] = (),
) -> ConsumerRecord:
    """Return a record as a consumer hands it out."""
    return ConsumerRecord(
        topic, partition, offset, timestamp_ms, 0, key, value, None, -1, len(value or b""), tuple(headers)
    )


def unreadable(
    topic: str,
    partition: int,
    offset: int,
    raw: bytes,
    reason: str,
    *,
    last_offset: int = -1,
    **of_record: Any,
) -> UnreadableRecord:
    """Return what stands for offsets that cannot be unpacked; with `key` or `headers` for one record."""
    tp, error = TopicPartition(topic, partition), Unreadable(reason)
    if not of_record:
        return unreadable_bytes(tp, offset, max(offset, last_offset), raw, error)
    given = {"key": b"key", "headers": (), **of_record}
    return unreadable_record(tp, offset, time=(NOW_MS, 0), raw=raw, error=error, **given)


def batch(
    topic: str, partition: int, records: Iterable[ConsumerRecord], *, assignment: object, start: int = 0, end: int = -1
) -> RecordBatch:
    """Return a batch of records; `end` (default: one behind the last record) is where to go on."""
    taken = list(records)
    return RecordBatch(
        topic, partition, taken, start, end if end >= 0 else taken[-1].offset + 1 if taken else start, assignment
    )


class Sent(NamedTuple):
    """A record that was sent."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class FakeProducer:
    """A transactional producer; what is committed appears in `records`, `offsets` and `commits`.

    `calls` lists what was asked of it in order. `gate`, while cleared, holds every commit. `failures` are raised
    by the call of that name. `changelog_offsets` are the offsets that batches get; others are answered without one.
    """

    def __init__(self) -> None:
        self.client = object()
        self.changelog_offsets: dict[TopicPartition, int] = {}
        self.calls: list[str] = []
        self.batch_sizes: list[int] = []
        self.stamps_ms: set[int] = set()
        self.records: list[Sent] = []
        self.offsets: dict[TopicPartition, OffsetAndMetadata] = {}
        self.commits: list[list[Sent]] = []
        self.committed = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: dict[str, BaseException] = {}
        self._open: list[Sent] | None = None
        self._open_offsets: dict[TopicPartition, OffsetAndMetadata] = {}

    async def start(self) -> None:
        """Connect; a transaction that is open under this id is aborted."""
        self._called("start")
        self._open = None

    async def stop(self) -> None:
        """Disconnect."""
        self._called("stop")

    async def begin_transaction(self) -> None:
        """Begin; there must be no other."""
        self._called("begin")
        assert self._open is None, "a transaction is open already"
        self._open, self._open_offsets = [], {}

    async def send_batch(self, builder: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[RecordMetadata]:
        """Take a batch into the open transaction."""
        self._called("send")
        assert self._open is not None, "no transaction is open"
        data = bytes(builder._build())
        self.batch_sizes.append(len(data))
        for one in _read(data):
            self._open.append(Sent(topic, partition, one.key, one.value, list(one.headers)))
            self.stamps_ms.add(one.timestamp)
        tp = TopicPartition(topic, partition)
        sent: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        offset = self.changelog_offsets.get(tp, -1)
        sent.set_result(RecordMetadata(topic, partition, tp, offset, None, 0, 0))
        return sent

    def commit_with(self, leader_epochs: Mapping[TopicPartition, int]) -> None:
        """Note whose leader epochs go with the offsets."""
        self.leader_epochs = leader_epochs

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group_id: str
    ) -> None:
        """Take offsets into the open transaction."""
        self._called("offsets")
        assert group_id == GROUP
        self._open_offsets = dict(offsets)

    async def commit_transaction(self) -> None:
        """Make the open transaction visible, once the gate is open."""
        self._called("commit")
        await self.gate.wait()
        assert self._open is not None, "no transaction is open"
        self.records += self._open
        self.commits.append(self._open)
        self.offsets |= self._open_offsets
        self._open = None
        self.committed.set()

    async def commits_reach(self, count: int) -> None:
        """Wait until so many transactions have committed."""
        while len(self.commits) < count:
            self.committed.clear()
            await self.committed.wait()

    def sent_to(self, topic: str) -> list[Sent]:
        """Return the committed records of a topic."""
        return [one for one in self.records if one.topic == topic]

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failures:
            raise self.failures[name]


def _read(data: bytes) -> Iterator[Any]:
    records = MemoryRecords(data)
    while (found := records.next_batch()) is not None:
        yield from found


class FakeOwnership:
    """Partitions that a test gives and takes away, at once and without restore."""

    def __init__(self, topic: str, *more_topics: str) -> None:
        self.group_id = GROUP
        self.notes_table = ""
        self.leader_epochs: dict[TopicPartition, int] = {}
        self.topic_ids: dict[str, str] = {}
        self.cluster_id = "cluster"
        self.input_topics = (topic, *more_topics)
        self.partitions: dict[int, Partition] = {}
        self.membership: Membership | None = Membership(1, "member")
        self.assignment: object = object()
        self.observers: list[PartitionObserver] = []
        self.held: frozenset[TopicPartition] = frozenset()
        self.calls: list[str] = []
        self.new_stores: Callable[[], dict[str, Any]] = dict

    def give(
        self,
        number: int,
        *,
        offset: int = 0,
        end: int = 0,
        kept_to: int | None = None,
        metadata: str = "",
        stores: Mapping[str, Any] | None = None,
        members: frozenset[str] | None = None,
    ) -> Partition:
        """Let the worker own a partition from a committed offset on; `end` is where its log ends now."""
        partition = self.partitions[number] = Partition(number)
        partition.next_offsets = dict.fromkeys(self.input_topics, offset)
        partition.metadata = dict.fromkeys(self.input_topics, metadata)
        partition.ends = dict.fromkeys(self.input_topics, end)
        partition.kept_to = dict.fromkeys(self.input_topics, sys.maxsize if kept_to is None else kept_to)
        partition.stores = {**self.new_stores(), **(stores or {})}
        partition.members = members
        partition.active = True
        for observer in self.observers:
            observer.partition_ready(partition)
        return partition

    def take_away(self, number: int) -> None:
        """Let another worker have a partition."""
        partition = self.partitions.pop(number)
        partition.active = False
        for observer in self.observers:
            observer.partition_lost(partition)

    def changelog_of(self, table: str) -> str:
        """Return the changelog topic of a table."""
        return f"{self.group_id}-{table}-changelog"

    def hold(self, partitions: frozenset[TopicPartition]) -> None:
        """Note which partitions are held back."""
        self.held = partitions

    def suspend(self) -> None:
        """Note the call."""
        self.calls.append("suspend")

    def claim(self, numbers: Iterable[int], membership: Membership, assignment: object, _client: object) -> None:
        """Take over membership and assignment; partitions are given by the test."""
        self.calls.append(f"claim {sorted(numbers)}")
        self.membership, self.assignment = membership, assignment

    async def stop(self) -> None:
        """Note the call."""
        self.calls.append("stop")


class FakeWorker:
    """Real `Transactions` over a producer and an ownership in memory."""

    def __init__(self, topic: str, *more_topics: str) -> None:
        self.topic = topic
        self.producer = FakeProducer()
        self.ownership = FakeOwnership(topic, *more_topics)
        self.fatal = Fatal()
        self.transactions = Transactions(
            ownership=cast("Any", self.ownership),
            new_producer=cast("Any", lambda _membership: self.producer),
            fatal=self.fatal,
        )

    async def start(self) -> None:
        """Connect the producer."""
        await self.transactions.start()

    def batch(
        self, partition: int, values: Iterable[bytes | None], *, start: int = 0, end: int = -1, topic: str = ""
    ) -> RecordBatch:
        """Return a batch of values at consecutive offsets, as fetched under the present assignment."""
        topic = topic or self.topic
        records = [record(topic, partition, offset, value) for offset, value in enumerate(values, start)]
        return batch(topic, partition, records, assignment=self.ownership.assignment, start=start, end=end)


class FakeStream:
    """A Faust stream of batches that a test puts in; ends when closed."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[RecordBatch | None] = asyncio.Queue()

    def put(self, *batches: RecordBatch) -> None:
        """Deliver batches."""
        for one in batches:
            self._queue.put_nowait(one)

    def close(self) -> None:
        """End the stream."""
        self._queue.put_nowait(None)

    @property
    def waiting_count(self) -> int:
        """Batches that nobody has taken yet."""
        return self._queue.qsize()

    async def events(self) -> AsyncIterator[Any]:
        """Yield events that carry a batch each."""
        while (one := await self._queue.get()) is not None:
            yield _Event(one)


class _Event(NamedTuple):
    value: RecordBatch


async def until(condition: Any, *, within_s: float = 30.0) -> None:
    """Let other coroutines run until a condition holds; for what nothing announces.

    Not for a number of turns: what threads and timers do takes any number of them.
    """
    give_up_at_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_at_s, f"the condition did not come about within {within_s:g} s"
        await asyncio.sleep(0)


async def settle(turns: int = 20) -> None:
    """Let other coroutines run; for showing that something does not happen."""
    for _ in range(turns):
        await asyncio.sleep(0)
