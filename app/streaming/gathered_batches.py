"""The batches of the next step: they are collected here while the current step commits."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.streaming.batching import RecordBatch

MAX_STEP_RECORDS = 16_000
"""Records that one step takes at most: bounds its memory and the time that a rebalance waits for it."""
MAX_STEP_BYTES = 16 << 20
"""Maximum bytes of values that one step takes; it sends a multiple of this."""


class GatheredBatches:
    """Batches between the stream and the next step, at most `max_records` and `MAX_STEP_BYTES`, and one batch."""

    def __init__(self, max_records: int) -> None:
        self._batches: deque[RecordBatch] = deque()
        self._record_count = 0
        self._size_bytes = 0
        self._max_records = max_records
        self._some = asyncio.Event()
        self._room = asyncio.Event()

    async def fill_from(self, stream: Any) -> None:
        """Take batches of a stream until it ends; waits while there is no room."""
        async for event in stream.events():
            batch: RecordBatch = event.value
            self._batches.append(batch)
            self._count(batch)
            if self._record_count >= self._max_records or self._size_bytes >= MAX_STEP_BYTES:
                self._room.clear()
                await self._room.wait()

    def give_back(self, left: Sequence[RecordBatch]) -> None:
        """Put batches that a step has left in front of all others, in their order."""
        self._batches.extendleft(reversed(left))
        for batch in left:
            self._count(batch)

    def _count(self, batch: RecordBatch) -> None:
        self._record_count += len(batch.records)
        self._size_bytes += sum(record.serialized_value_size for record in batch.records)
        self._some.set()

    async def take(self, filling: asyncio.Task[None]) -> Sequence[RecordBatch]:
        """Wait for batches and return all; an empty sequence when the stream has ended."""
        if not self._some.is_set():
            waiting = asyncio.ensure_future(self._some.wait())
            await asyncio.wait([waiting, filling], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if filling.done() and not self._batches:
                filling.result()
                return ()
        taken = list(self._batches)
        self._batches.clear()
        self._record_count = 0
        self._size_bytes = 0
        self._some.clear()
        self._room.set()
        return taken
