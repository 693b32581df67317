"""Reads the records of one key so far: an object's events, or a task's requests. A few consumers are taken in turns."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from api.view.event_log import Begin, EventRecord, EventsUnavailable
from app.kafka.errors import KafkaError
from app.kafka.types import TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

_MAX_CONSUMERS = 4
_MAX_RECORDS = 1_000
_POLL_MS = 200
_SILENCE_S = 10.0
"""If a read makes no progress for this long, the broker counts as unreachable."""


class EventHistory:
    """Reads `topic` with the consumers that `open_consumer` opens."""

    def __init__(self, topic: str, open_consumer: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._topic = topic
        self._open_consumer = open_consumer
        self._turns = asyncio.Semaphore(_MAX_CONSUMERS)
        self._idle: list[Any] = []
        self._opened = AsyncExitStack()

    async def read(
        self, record_key: str, partition: int, begin: Begin, end: int | None, until_ms: int | None
    ) -> AsyncGenerator[list[EventRecord], None]:
        """See `EventLog.read`: the records of a key."""
        key = record_key.encode()
        tp = TopicPartition(self._topic, partition)
        try:
            async with self._consumer() as consumer:
                first, last = await _range(consumer, tp, begin, end, until_ms)
                consumer.assign([tp])
                consumer.seek(tp, first)
                async for records in _stretches(consumer, tp, first, last):
                    yield [
                        EventRecord(record.offset, record.value)
                        for record in records
                        if record.key == key and record.value is not None and record.offset < last
                    ]
        except KafkaError as error:
            raise EventsUnavailable(f"cannot read {self._topic} from the Kafka broker ({error!r})") from error

    async def close(self) -> None:
        """Close the consumers."""
        await self._opened.aclose()
        self._idle = []

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Any]:
        async with self._turns:
            consumer = self._idle.pop() if self._idle else await self._open()
            try:
                yield consumer
            finally:
                # Paused, for nobody reads what it would go on fetching. `unsubscribe` would end aiokafka's fetcher for
                # good while it looks at its assignment, and the consumer would never hand out anything again.
                consumer.pause(*consumer.assignment())
                self._idle.append(consumer)

    async def _open(self) -> Any:
        try:
            return await self._opened.enter_async_context(self._open_consumer())
        except OSError as error:
            raise EventsUnavailable(f"no Kafka broker answers ({error})") from error


async def _range(
    consumer: Any, tp: TopicPartition, begin: Begin, end: int | None, until_ms: int | None
) -> tuple[int, int]:
    """Return the first offset to read and the one to stop before."""
    beginnings = await consumer.beginning_offsets([tp])
    if end is None:
        end = (await consumer.end_offsets([tp]))[tp]
    first = begin.offset
    if first is None:
        first = end
        found = (await consumer.offsets_for_times({tp: begin.at_ms or 0}))[tp]
        if found is not None:
            first = found.offset
    if until_ms is not None:
        found = (await consumer.offsets_for_times({tp: until_ms}))[tp]
        if found is not None:
            end = min(end, found.offset)
    # If retention has deleted the beginning, reading starts at the first record that is left.
    return max(first, beginnings[tp]), end


async def _stretches(consumer: Any, tp: TopicPartition, first: int, last: int) -> AsyncIterator[list[Any]]:
    position = first
    quiet_since_s = asyncio.get_running_loop().time()
    while position < last:
        records = (await consumer.getmany(tp, timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)).get(tp, [])
        reached = await consumer.position(tp)
        now_s = asyncio.get_running_loop().time()
        if reached > position:
            position, quiet_since_s = reached, now_s
            yield records
            await asyncio.sleep(0)
        elif now_s - quiet_since_s > _SILENCE_S:
            raise EventsUnavailable(f"the Kafka broker has not handed out any event for {_SILENCE_S:g} s")
