"""An `EventLog` over topics in memory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from plain_names import TASK_EVENTS

from api.view.event_log import Begin, EventRecord, EventsUnavailable
from api.view.event_tail import Follower

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
    from typing import Any

_TIMEOUT_S = 20.0


class MemoryEvents:
    """Reads lists of records; `hand_out` tells those who follow what was written last."""

    def __init__(self, records: Mapping[tuple[str, int], Sequence[Any]]) -> None:
        self._records = records
        self.followers: list[Follower] = []
        self.failure: str | None = None
        self.read_count = 0
        self._followed = asyncio.Event()

    @asynccontextmanager
    async def follow(self, object_id: str, partition: int) -> AsyncIterator[Follower]:
        """See `EventLog.follow`."""
        follower = Follower(object_id.encode(), partition)
        follower.start_at(len(self._log(partition)))
        self.followers.append(follower)
        self._followed.set()
        try:
            yield follower
        finally:
            self.followers.remove(follower)

    async def read(
        self, object_id: str, partition: int, begin: Begin, end: int | None = None, until_ms: int | None = None
    ) -> AsyncGenerator[list[EventRecord], None]:
        """See `EventLog.read`; each record is a stretch of its own."""
        log = self._log(partition)
        async for records in self._stretches(object_id, log[: len(log) if end is None else end], begin, until_ms):
            yield records

    async def read_requests(
        self, task_id: str, topic: str, partition: int, begin: Begin, until_ms: int
    ) -> AsyncGenerator[list[EventRecord], None]:
        """See `EventLog.read_requests`."""
        log = self._records.get((topic, partition), [])
        async for records in self._stretches(task_id, log, begin, until_ms):
            yield records

    async def _stretches(
        self, key: str, log: Sequence[Any], begin: Begin, until_ms: int | None
    ) -> AsyncGenerator[list[EventRecord], None]:
        if self.failure is not None:
            raise EventsUnavailable(self.failure)
        for record in log:
            late = until_ms is not None and record.timestamp >= until_ms
            if late or record.offset < (begin.offset or 0) or record.timestamp < (begin.at_ms or 0):
                continue
            self.read_count += 1
            yield [EventRecord(record.offset, record.value)] if record.key == key.encode() else []

    def hand_out(self, partition: int, offset: int) -> None:
        """Tell those who follow of one record."""
        record = self._log(partition)[offset]
        for follower in self.followers:
            if (follower.key, follower.partition) == (record.key, partition):
                follower.put(EventRecord(offset, record.value))

    async def until_followed(self) -> None:
        """Return when somebody has begun to follow."""
        async with asyncio.timeout(_TIMEOUT_S):
            await self._followed.wait()

    def close(self) -> None:
        """See `EventLog.close`."""
        for follower in self.followers:
            follower.fail(EventsUnavailable("this API process stops"))

    def _log(self, partition: int) -> Sequence[Any]:
        return self._records.get((TASK_EVENTS, partition), [])
