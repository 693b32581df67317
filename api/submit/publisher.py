"""Publishes records with an idempotent producer and acks=all, and waits until the broker has acknowledged them.

Guarantee: when `publish` returns, the record is on every in-sync replica, once. When it raises `OutcomeUnknown`, the
record may be there or not, now or later; the same record may be sent again (distribution knows an object id again).

aiokafka's idempotent producer never gives up on a batch. If a batch fails for good, the sequence numbers have a gap,
and the broker refuses all later batches. So after a failed submit the producer is abandoned, with all waiting records,
and a new producer is made when the broker answers again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from app.errors import BrokerUnavailable, OutcomeUnknown, RecordRefused
from app.kafka.errors import BrokerResponseError, KafkaError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from app.kafka.cluster import Cluster
    from app.rules.outgoing import Outgoing
    from app.telemetry.tracing import Headers, Tracing

Record = tuple[int, bytes, bytes]
"""Partition, key, value."""

Ends = dict[tuple[str, int], int]
"""By topic and partition the offset after the last record written."""

_log = logging.getLogger(__name__)

# The broker takes 1,048,588 bytes a batch by default (message.max.bytes).
MAX_BATCH_BYTES = 1_040_000
_RETRY_PAUSE_S = 1.0


class Publisher(Protocol):
    """The interface of a publisher for the routes; tests pass an implementation of their own."""

    async def publish(self, record: Record) -> int | None:
        """Return the record's offset (None: it is there, but the broker no longer knows where).

        Raises `BrokerUnavailable` or `RecordRefused` (nothing was stored) or `OutcomeUnknown`.
        """

    async def publish_many(self, records: Iterable[Record]) -> dict[int, int]:
        """Return by partition the offset after its last record; raises `BrokerUnavailable` or `OutcomeUnknown`."""

    async def publish_to(self, records: Iterable[Outgoing]) -> Ends:
        """Write records of any topics, in this order within a partition; returns where each partition ends now.

        Raises `BrokerUnavailable` (nothing was stored), `OutcomeUnknown`, or `RecordRefused` if the broker will never
        take one of them; others may be stored.
        """

    def trouble(self) -> str | None:
        """Say why nothing can be published now; None if it can."""


class KafkaPublisher:
    """A `Publisher` on a broker that comes and goes; `run` keeps a producer at hand."""

    def __init__(
        self,
        cluster: Cluster,
        timeout_s: float,
        connect: Callable[[], Awaitable[object]],
        *,
        objects: str,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self._objects = objects
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._connect = connect
        self._producer: Any = None
        self._lost = asyncio.Event()
        self._abandoned: set[asyncio.Task[None]] = set()

    def trouble(self) -> str | None:
        """Say why nothing can be published now; None if it can."""
        return None if self._producer is not None else f"not connected to the Kafka broker at {self._cluster.bootstrap}"

    async def run(self) -> None:
        """Keep a producer at hand until cancelled; raises what `connect` raises."""
        try:
            while True:
                await self._connect()
                try:
                    producer = await self._start()
                except (KafkaError, OSError, TimeoutError) as error:
                    _log.warning("cannot publish to the Kafka broker at %s yet: %r", self._cluster.bootstrap, error)
                    await asyncio.sleep(_RETRY_PAUSE_S)
                    continue
                self._lost.clear()
                self._producer = producer
                await self._lost.wait()
        finally:
            if self._producer is not None:
                await abandon(self._producer)  # a server stops when no submit is left, so nothing waits in it
            await asyncio.gather(*self._abandoned, return_exceptions=True)

    async def publish(self, record: Record) -> int | None:
        """See `Publisher.publish`."""
        producer = self._available()
        partition, key, value = record
        try:
            async with asyncio.timeout(self._timeout_s):
                with _sending(self._tracing, self._objects, partition) as headers:
                    future = await producer.send(
                        self._objects, value=value, key=key, partition=partition, headers=headers
                    )
                    metadata = await future
        except (KafkaError, TimeoutError) as error:
            raise self._let_down(producer, error) from error
        return metadata.offset if metadata.offset >= 0 else None

    async def publish_many(self, records: Iterable[Record]) -> dict[int, int]:
        """See `Publisher.publish_many`."""
        try:
            with _sending(self._tracing, self._objects) as headers:
                given = headers or ()
                ends = await self._send(
                    (self._objects, partition, key, value, given) for partition, key, value in records
                )
        except RecordRefused as error:
            # What one partition refused, another one may have taken.
            raise OutcomeUnknown(str(error)) from error
        return {partition: end for (_, partition), end in ends.items()}

    async def publish_to(self, records: Iterable[Outgoing]) -> Ends:
        """See `Publisher.publish_to`."""
        return await self._send(records)

    async def _send(self, records: Iterable[tuple[str, int, bytes | None, bytes | None, Any]]) -> Ends:
        producer = self._available()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await send_batches(producer, records)
        except (KafkaError, TimeoutError) as error:
            raise self._let_down(producer, error) from error

    async def _start(self) -> Any:
        # A connection that hangs is given up within one submit's patience.
        producer = self._cluster.within(max(1_000, self._timeout_s * 1_000)).new_producer(
            "ebs-api", enable_idempotence=True, max_batch_size=MAX_BATCH_BYTES, max_request_size=MAX_BATCH_BYTES
        )
        try:
            # An idempotent producer asks for its id until somebody answers, so it needs a limit from outside.
            async with asyncio.timeout(self._timeout_s):
                await producer.start()
                await producer.partitions_for(self._objects)
        except BaseException:
            await producer.stop()
            raise
        return producer

    def _available(self) -> Any:
        if self._producer is None:
            raise BrokerUnavailable(self.trouble())
        return self._producer

    def _let_down(self, producer: Any, error: Exception) -> OutcomeUnknown | RecordRefused:
        """Abandon a producer that failed; returns what to raise."""
        if self._producer is producer:
            _log.warning(
                "the Kafka broker at %s did not accept a record (%r); connecting again", self._cluster.bootstrap, error
            )
            self._producer = None
            self._lost.set()
            task = asyncio.create_task(abandon(producer))
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)
        if isinstance(error, BrokerResponseError) and not error.retriable:
            return RecordRefused(f"the Kafka broker at {self._cluster.bootstrap} refused it: {error}")
        return OutcomeUnknown(
            f"the Kafka broker at {self._cluster.bootstrap} did not confirm within {self._timeout_s:g} s"
        )


@contextmanager
def _sending(tracing: Tracing | None, topic: str, partition: int | None = None) -> Iterator[Headers | None]:
    """Give the headers of records that are sent meanwhile; None: nobody traces them."""
    traced = None if tracing is None else tracing.send(topic, partition)
    if traced is None:
        yield None
        return
    try:
        yield traced.headers
    except BaseException as error:
        traced.fail(error)
        raise
    finally:
        traced.end()


async def send_batches(producer: Any, records: Iterable[tuple[str, int, bytes | None, bytes | None, Any]]) -> Ends:
    """Send records as batches and return, once all are acknowledged, where each partition ends."""
    builders: dict[tuple[str, int], Any] = {}
    sent: list[tuple[tuple[str, int], int, asyncio.Future[Any]]] = []

    async def send(place: tuple[str, int]) -> None:
        builder = builders.pop(place)
        # Closed, or single submits would be appended to it and counted as ours.
        builder.close()
        count = builder.record_count()
        topic, partition = place
        sent.append((place, count, await producer.send_batch(builder, topic, partition=partition)))

    try:
        for topic, partition, key, value, headers in records:
            place = (topic, partition)
            builder = builders.get(place)
            if builder is None:
                builder = builders[place] = producer.create_batch()
            if builder.append(timestamp=None, key=key, value=value, headers=list(headers or ())) is None:
                await send(place)
                builder = builders[place] = producer.create_batch()
                builder.append(timestamp=None, key=key, value=value, headers=list(headers or ()))
        for place in list(builders):
            await send(place)
        ends: Ends = {}
        for place, count, future in sent:
            metadata = await future
            if metadata.offset >= 0:
                ends[place] = max(ends.get(place, 0), metadata.offset + count)
    except BaseException:
        for _, _, future in sent:
            look_at(future)
        raise
    return ends


def look_at(future: asyncio.Future[Any]) -> None:
    """Let asyncio not report a failure that nobody waits for any more."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())


async def abandon(producer: Any) -> None:
    """Stop a producer without waiting for what it holds."""
    # stop() flushes first: it would wait for a broker that does not take the batches, so for ever. So its parts are
    # stopped one by one; who still waits for a batch gives up by his own clock.
    sender_task = producer._sender.sender_task  # noqa: SLF001  # aiokafka has no way to close without flushing
    if sender_task is not None:
        sender_task.cancel()
        await asyncio.wait([sender_task])
    await producer.client.close()
    producer._closed = True  # noqa: SLF001  # or its finalizer complains
