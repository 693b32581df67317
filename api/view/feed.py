"""Reads the topics into the view, for as long as the process lives.

Reads: `objects`, the changelogs of ledger, results, windows and of the waiting tasks of each queue, `dead-letters`; all
partitions, `read_committed`, no group.
Writes: the store of this process.
Guarantee: rows and offsets go into the store together, so a crash repeats nothing and misses nothing. Topics that were
recreated are noticed by their ids: then the view is rebuilt, as it is when it may have missed tombstones.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from api.view.consumer_progress import progress_of
from api.view.consumers import EndsAsker, view_reader
from api.view.forgotten import read_counted
from api.view.ledger_first import begin_anew
from api.view.rows import compacted_topics, read_topics
from api.view.store import Slot, ViewStoreFailed
from api.view.tombstones import Continuity, TombstonesMissed, read_tombstones_kept_ms
from api.view.topic_identity import read_layout
from app.kafka.errors import KafkaError
from app.kafka.types import TopicPartition
from app.names import STATISTICS
from app.rules.freshness import Freshness
from app.topics.queues import retired_queues

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from api.view.forgotten import Counted
    from api.view.ledger_first import LedgerFirst
    from api.view.store import Layout
    from api.view.view import View
    from app.kafka.cluster import Cluster

_log = logging.getLogger(__name__)

# More would hold the event loop for too long: requests wait meanwhile (1,000 records are about 5 ms).
_MAX_RECORDS = 1_000
_POLL_MS = 100
_IDENTITY_EVERY_S = 10.0
_RETRY_PAUSE_S = 1.0
_DISK_PAUSE_S = 5.0


class TopicsReplaced(Exception):
    """The topics are not those that the view was built from."""


class ViewFeed:
    """Feeds a view, `queues` are those of the project; `run` is its whole life."""

    def __init__(
        self,
        cluster: Cluster,
        data_dir: Path,
        view: View,
        connect: Callable[[], Awaitable[object]],
        *,
        queues: Sequence[str],
        clock_ms: Callable[[], int],
    ) -> None:
        self._cluster = cluster
        self._data_dir = data_dir
        self._view = view
        self._names = view.names
        self._queues = queues
        self._connect = connect
        self._clock_ms = clock_ms

    async def run(self) -> None:
        """Follow the topics until cancelled; raises what `connect` raises."""
        slot = await self._take_slot()
        try:
            while True:
                await self._connect()
                try:
                    await self._follow(slot)
                except ViewStoreFailed as error:
                    await self._wait_for_room(error)
                except TopicsReplaced as error:
                    _log.warning("%s: the view is rebuilt", error)
                except TombstonesMissed:
                    pass  # the slot notices this, too: it logs it, and rebuilds the store
                except (KafkaError, OSError) as error:
                    _log.warning("the view cannot read from the Kafka broker at %s: %r", self._cluster.bootstrap, error)
                    await asyncio.sleep(_RETRY_PAUSE_S)
                finally:
                    self._view.detach()
        finally:
            slot.close()

    async def _take_slot(self) -> Slot:
        while True:
            try:
                return Slot(self._data_dir)
            except ViewStoreFailed as error:
                await self._wait_for_room(error)

    async def _wait_for_room(self, error: ViewStoreFailed) -> None:
        # The view is only a cache: what else this process does must not end with it.
        self._view.trouble = str(error)
        self._view.detach()
        _log.error("%s", error)
        await asyncio.sleep(_DISK_PAUSE_S)

    async def _follow(self, slot: Slot) -> None:
        # Tasks may wait in a queue that no kind has any more, until a worker of it moves them.
        queues = (*self._queues, *await retired_queues(self._cluster, self._names, self._queues))
        self._view.follow(queues)
        topics = read_topics(self._names, queues)
        layout = await read_layout(self._cluster, topics)
        partitions = [TopicPartition(name, number) for name in topics for number in range(layout.topics[name][1])]
        async with self._cluster.admin("ebs-api-view-admin") as admin:
            kept_ms = await read_tombstones_kept_ms(admin, compacted_topics(self._names, queues))
        reach = partial(view_reader, self._cluster, self._names)
        async with (
            reach("ebs-api-view") as consumer,
            reach("ebs-api-ends") as of_committed,
            reach("ebs-api-ends-written", "read_uncommitted") as of_written,
        ):
            asker = EndsAsker(of_committed, of_written, self._names.objects, partitions)
            store = slot.open(layout, self._clock_ms(), kept_ms)
            self._view.attach(store, asker.read)
            consumer.assign(partitions)
            offsets = self._view.offsets()
            for tp in partitions:
                consumer.seek(tp, offsets.get(tp.topic, {}).get(tp.partition, 0))
            ledger_first = None
            if not any(offsets.get(self._names.objects, {}).values()):
                ledger_first = await self._begin_anew(consumer, asker, partitions)
            watch = asyncio.create_task(self._watch(layout))
            freshness = {tp: Freshness() for tp in partitions}
            continuity = Continuity(store, kept_ms)
            try:
                while not watch.done():
                    await self._take_in(consumer, freshness)
                    continuity.note(self._view.progress.as_of_ms)
                    if ledger_first is not None and await ledger_first.is_over():
                        ledger_first = None
                watch.result()
            finally:
                watch.cancel()

    async def _begin_anew(self, consumer: Any, asker: EndsAsker, partitions: list[TopicPartition]) -> LedgerFirst:
        objects = [tp for tp in partitions if tp.topic == self._names.objects]

        async def ask_counted() -> Counted:
            async with self._cluster.admin("ebs-api-view-admin") as admin:
                return await read_counted(admin, self._names.group(STATISTICS), objects)

        counted, ledger_first = await begin_anew(
            consumer, objects, ask_counted, partial(asker.read_written, self._names.ledger_changelog)
        )
        if counted:
            self._view.leave_out_forgotten(counted)
        return ledger_first

    async def _take_in(self, consumer: Any, freshness: Mapping[TopicPartition, Freshness]) -> None:
        records = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
        if records:
            offsets = self._view.offsets()
            for tp, new in records.items():
                if new[0].offset < offsets.get(tp.topic, {}).get(tp.partition, 0):
                    raise TopicsReplaced(f"topic {tp.topic} was recreated")
            self._view.apply({(tp.topic, tp.partition): new for tp, new in records.items()})
        self._view.refused = consumer.refusals.lasting()
        found = await progress_of(consumer, freshness)
        if found is not None:
            self._view.note_progress(found.progress, found.positions)
        # A full buffer answers without waiting; requests must have their turn.
        await asyncio.sleep(0)

    async def _watch(self, layout: Layout) -> None:
        """Never return; raises `TopicsReplaced` when the topics are no longer those of `layout`."""
        while True:
            await asyncio.sleep(_IDENTITY_EVERY_S)
            try:
                now = await read_layout(self._cluster, tuple(layout.topics))
            except (KafkaError, OSError):
                continue  # a broker that is away has not replaced anything yet
            if now != layout:
                raise TopicsReplaced(f"the topics at {self._cluster.bootstrap} were recreated")
