"""Follows `control` for one worker, from the first record on, while the process runs: the commands in force.

Reads: `control`, all of it at each start, `read_committed`, without a group (every worker needs every record).
Guarantee: after `caught_up` the state has every command that was acknowledged before the worker started, so a pause
survives all workers. While the broker is unreachable, the last known state stays in force. When the reader restarts,
the state is replaced as a whole, never record by record: an old pause that was undone long ago never appears.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from app.kafka.errors import KafkaError
from app.kafka.types import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.kafka.cluster import Cluster
    from app.kafka.types import ConsumerRecord
    from app.rules.control import ControlState

log = logging.getLogger(__name__)

_POLL_MS = 250
"""How long an empty topic makes the start wait; news comes at once."""
_RETRY_PAUSE_S = 1.0


class ControlFeed:
    """Keeps `state` up to date and calls `on_change` after each change; `connection` holds aiokafka's options.

    `position` is the next offset, so that the watchdog sees if this reader makes no progress while commands wait.
    """

    def __init__(self, cluster: Cluster, state: ControlState, topic: str, *, on_change: Callable[[], None]) -> None:
        self.state = state
        self._cluster = cluster
        self._on_change = on_change
        self.partition = TopicPartition(topic, 0)
        self.position = 0
        self._is_told = True
        self._caught_up = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read; `stop` ends it."""
        self._running = asyncio.create_task(self.run())

    async def stop(self) -> None:
        """Read no more."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    async def caught_up(self) -> None:
        """Return once everything was read that was on the topic at the start: no task may start before."""
        await self._caught_up.wait()

    async def run(self) -> None:
        """Follow the topic until cancelled; never raises."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError) as error:
                log.warning("cannot read %s; the commands in force stay in force: %r", self.partition.topic, error)
            except Exception:
                # A worker that no longer heard of pauses and cancels must at least say so, and try again.
                log.exception("reading %s failed; the commands in force stay in force", self.partition.topic)
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def _follow(self) -> None:
        """Read from the beginning, then follow; returns when the topic was recreated."""
        async with self._cluster.reader("ebs-control", fetch_max_wait_ms=_POLL_MS) as consumer:
            consumer.assign([self.partition])
            await consumer.seek_to_beginning(self.partition)
            await self._read(consumer)

    async def _read(self, consumer: Any) -> None:
        latest: dict[bytes, bytes | None] | None = {}
        self.position = 0
        while True:
            fetched = await consumer.getmany(self.partition, timeout_ms=_POLL_MS)
            records: Sequence[ConsumerRecord] = fetched.get(self.partition, ())
            reached = await consumer.position(self.partition)
            if reached < self.position or (records and records[0].offset < self.position):
                log.warning("topic %s was made again: it is read from the start", self.partition.topic)
                return
            self.position = reached
            if latest is None:
                self._apply(records)
                continue
            latest.update((record.key, record.value) for record in records)
            # The high watermark, not the last stable offset: an acknowledged pause may lie behind an open transaction.
            end = consumer.highwater(self.partition)
            if end is not None and reached >= end:
                changed = self.state.replace(latest)
                latest = None
                self._caught_up.set()
                self._tell(changed=changed)

    def _apply(self, records: Sequence[ConsumerRecord]) -> None:
        changes = [self.state.apply(record.key, record.value) for record in records]
        self._tell(changed=any(changes))

    def _tell(self, *, changed: bool) -> None:
        """Call `on_change`; if it fails, the next read calls it again, even if nothing has changed since."""
        if changed or not self._is_told:
            self._is_told = False
            self._on_change()
            self._is_told = True
