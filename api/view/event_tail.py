"""One reader of new records on `task-events` for all streams: it filters by key, hands out events, and never waits.

It runs only while a stream is open, and reads only the partitions of the streamed objects.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from api.view.event_log import EventRecord, EventsUnavailable, TooSlow
from app.kafka.errors import KafkaError
from app.kafka.types import TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

_log = logging.getLogger(__name__)

MAX_WAITING_COUNT = 4_096
MAX_WAITING_BYTES = 8 * 1_048_576
_POLL_MS = 50
_MAX_RECORDS = 1_000
_START_TIMEOUT_S = 10.0
_LINGER_S = 10.0
_RETRY_PAUSE_S = 1.0


class Follower:
    """The stream of one object: the events that the client has not taken yet, up to a limit."""

    def __init__(self, key: bytes, partition: int) -> None:
        self.key = key
        self.partition = partition
        self.begin = 0
        self.started = asyncio.Event()
        self._waiting: list[EventRecord] = []
        self._waiting_bytes = 0
        self._came = asyncio.Event()
        self._failure: EbsFailure | None = None

    def start_at(self, offset: int) -> None:
        """Say from which offset on it hears of everything."""
        self.begin = offset
        self.started.set()

    def put(self, record: EventRecord) -> None:
        """Hand over an event; if the client has left too many events waiting, the stream fails instead."""
        if self._failure is not None:
            return
        self._waiting.append(record)
        self._waiting_bytes += len(record.value)
        if len(self._waiting) > MAX_WAITING_COUNT or self._waiting_bytes > MAX_WAITING_BYTES:
            detail = f"{len(self._waiting)} events ({self._waiting_bytes} bytes) wait to be taken"
            self.fail(TooSlow(f"the client is too slow: {detail}"))
        self._came.set()

    def fail(self, failure: EbsFailure) -> None:
        """Drop the waiting events, and raise the error at the next `get`."""
        self._failure = failure
        self._waiting = []
        self.started.set()
        self._came.set()

    def check(self) -> None:
        """Raise the error of the stream, if it has failed."""
        if self._failure is not None:
            raise self._failure

    async def get(self, timeout_s: float) -> list[EventRecord]:
        """See `Tail.get`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._came.wait()
        except TimeoutError:
            return []
        self.check()
        taken, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._came.clear()
        return taken


EbsFailure = TooSlow | EventsUnavailable


class EventTail:
    """Hands out records of `topic`; `run` is its whole life, `open_consumer` opens a reader of committed records."""

    def __init__(self, topic: str, open_consumer: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._topic = topic
        self._open_consumer = open_consumer
        self._followers: dict[bytes, set[Follower]] = {}
        self._positions: dict[int, int] = {}
        self._wanted = asyncio.Event()

    @asynccontextmanager
    async def follow(self, object_id: str, partition: int) -> AsyncIterator[Follower]:
        """See `EventLog.follow`."""
        follower = Follower(object_id.encode(), partition)
        self._followers.setdefault(follower.key, set()).add(follower)
        if partition in self._positions:
            follower.start_at(self._positions[partition])
        self._wanted.set()
        try:
            await _started(follower)
            yield follower
        finally:
            others = self._followers[follower.key]
            others.discard(follower)
            if not others:
                del self._followers[follower.key]

    async def run(self) -> None:
        """Read while a stream is open, until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                async with self._open_consumer() as consumer:
                    await self._serve(consumer)
            except (KafkaError, OSError) as error:
                _log.warning("cannot follow %s: %r", self._topic, error)
                self.fail_all(EventsUnavailable(f"cannot read events from the Kafka broker ({error!r})"))
                await asyncio.sleep(_RETRY_PAUSE_S)
            finally:
                self._positions = {}

    def fail_all(self, failure: EbsFailure) -> None:
        """Let all followers go."""
        for followers in self._followers.values():
            for follower in followers:
                follower.fail(failure)

    async def _serve(self, consumer: Any) -> None:
        """Read until no stream has been open for a while."""
        while True:
            if not self._followers:
                self._wanted.clear()
                # Nobody reads what it would go on fetching (`unsubscribe` ends aiokafka's fetcher, see event_history).
                consumer.pause(*consumer.assignment())
                self._positions = {}
                try:
                    async with asyncio.timeout(_LINGER_S):
                        await self._wanted.wait()
                except TimeoutError:
                    return
            await self._assign(consumer)
            records = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
            for tp, new in records.items():
                self._hand_out(tp.partition, new)
            # A full buffer answers without waiting; others must have their turn.
            await asyncio.sleep(0)

    def _hand_out(self, partition: int, records: list[Any]) -> None:
        followers = self._followers
        for record in records:
            wanted = followers.get(record.key)
            if wanted is not None and record.value is not None:
                for follower in wanted:
                    follower.put(EventRecord(record.offset, record.value))
        self._positions[partition] = records[-1].offset + 1

    async def _assign(self, consumer: Any) -> None:
        """Read the partitions that somebody follows, and no others."""
        needed = {follower.partition for followers in self._followers.values() for follower in followers}
        if needed == self._positions.keys():
            return
        # Before the first await: a stream that opens meanwhile must not rely on a partition that is dropped here.
        self._positions = {number: self._positions[number] for number in needed & self._positions.keys()}
        new = [TopicPartition(self._topic, number) for number in needed - self._positions.keys()]
        ends = await consumer.end_offsets(new) if new else {}
        self._positions |= {tp.partition: end for tp, end in ends.items()}
        consumer.assign([TopicPartition(self._topic, number) for number in self._positions])
        for number, offset in self._positions.items():
            consumer.seek(TopicPartition(self._topic, number), offset)
        for followers in self._followers.values():
            for follower in followers:
                if not follower.started.is_set() and follower.partition in self._positions:
                    follower.start_at(self._positions[follower.partition])


async def _started(follower: Follower) -> None:
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await follower.started.wait()
    except TimeoutError:
        raise EventsUnavailable("cannot read the end offsets of the events") from None
    follower.check()
