"""An `EventLog` on Kafka: the tail, and the history."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from api.view.event_history import EventHistory
from api.view.event_log import Begin, EventRecord, EventsUnavailable
from api.view.event_tail import EventTail
from app.kafka.probe import PLAINTEXT
from app.kafka.reading import RecordReader

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from api.view.event_log import Tail
    from app.kafka.probe import Security

# A broker answers a connection's requests in turn, so each question would wait behind a fetch that waits for records.
_FETCH_WAIT_MS = 50


class KafkaEvents:
    """Reads `topic` (task events) of the broker at `bootstrap`; `run` is its whole life."""

    def __init__(self, bootstrap: str, topic: str, *, security: Security = PLAINTEXT) -> None:
        self._bootstrap = bootstrap
        self._security = security
        self._tail = EventTail(topic, self._open_consumer)
        self._history = EventHistory(topic, self._open_consumer)

    def follow(self, object_id: str, partition: int) -> AbstractAsyncContextManager[Tail]:
        """See `EventLog.follow`."""
        return self._tail.follow(object_id, partition)

    def read(
        self, object_id: str, partition: int, begin: Begin, end: int | None = None, until_ms: int | None = None
    ) -> AsyncGenerator[list[EventRecord], None]:
        """See `EventLog.read`."""
        return self._history.read(object_id, partition, begin, end, until_ms)

    def close(self) -> None:
        """See `EventLog.close`."""
        self._tail.fail_all(EventsUnavailable("this API process stops"))

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await self._tail.run()
        finally:
            await self._history.close()

    @asynccontextmanager
    async def _open_consumer(self) -> AsyncIterator[Any]:
        consumer = RecordReader(
            bootstrap_servers=self._bootstrap,
            **self._security,
            client_id="ebs-api-events",
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()
