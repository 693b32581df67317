"""An `EventLog` on Kafka: the tail, and the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.view.event_history import EventHistory
from api.view.event_log import Begin, EventRecord, EventsUnavailable
from api.view.event_tail import EventTail

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from api.view.event_log import Tail
    from app.kafka.cluster import Cluster
    from app.names import Names

# A broker answers the requests of a connection in turn, so each request would wait for a fetch that waits for records.
_FETCH_WAIT_MS = 50


class KafkaEvents:
    """Reads task events, and requests for tasks; `run` is its whole life."""

    def __init__(self, cluster: Cluster, names: Names) -> None:
        self._cluster = cluster
        self._tail = EventTail(names.task_events, self._open_consumer)
        self._history = EventHistory(names.task_events, self._open_consumer)
        self._requests: dict[str, EventHistory] = {}

    def follow(self, object_id: str, partition: int) -> AbstractAsyncContextManager[Tail]:
        """See `EventLog.follow`."""
        return self._tail.follow(object_id, partition)

    def read(
        self, object_id: str, partition: int, begin: Begin, end: int | None = None, until_ms: int | None = None
    ) -> AsyncGenerator[list[EventRecord], None]:
        """See `EventLog.read`."""
        return self._history.read(object_id, partition, begin, end, until_ms)

    def read_requests(
        self, task_id: str, topic: str, partition: int, begin: Begin, until_ms: int
    ) -> AsyncGenerator[list[EventRecord], None]:
        """See `EventLog.read_requests`."""
        if topic not in self._requests:
            self._requests[topic] = EventHistory(topic, self._open_consumer)
        return self._requests[topic].read(task_id, partition, begin, None, until_ms)

    def close(self) -> None:
        """See `EventLog.close`."""
        self._tail.fail_all(EventsUnavailable("this API process stops"))

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await self._tail.run()
        finally:
            await self._history.close()
            for requests in self._requests.values():
                await requests.close()

    def _open_consumer(self) -> AbstractAsyncContextManager[Any]:
        return self._cluster.reader("ebs-api-events", fetch_max_wait_ms=_FETCH_WAIT_MS)
