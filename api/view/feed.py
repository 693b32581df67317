"""Reads the topics into the view, for as long as the process lives.

Reads: `objects`, the changelogs of ledger and windows, `dead-letters`; all partitions, `read_committed`, no group.
Writes: the store of this process.
Guarantee: rows and offsets go into the store together, so a crash repeats nothing and misses nothing. Topics that were
made anew are noticed by their ids; then the view is built anew too.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from api.view.forgotten import Forgotten, read_counted
from api.view.rows import TOPICS
from api.view.standing import Freshness
from api.view.store import Slot
from api.view.topic_identity import read_layout
from api.view.view import Progress, ViewBehind
from app.broker_probe import PLAINTEXT
from app.topics import LEDGER_CHANGELOG, OBJECTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from api.view.store import Layout, Offsets
    from api.view.view import Ends, View
    from app.broker_probe import Security

_log = logging.getLogger(__name__)

# More would hold the event loop for too long: requests wait meanwhile (1,000 records are about 5 ms).
_MAX_RECORDS = 1_000
_POLL_MS = 100
_IDENTITY_EVERY_S = 10.0
_RETRY_PAUSE_S = 1.0


class TopicsReplaced(Exception):
    """The topics are others than those that the view was built from."""


class _Standing(NamedTuple):
    """Where a consumer stands: the next offsets, and how far behind they are."""

    positions: Offsets
    progress: Progress


class ViewFeed:
    """Feeds a view; `run` is its whole life."""

    def __init__(
        self,
        bootstrap: str,
        data_dir: Path,
        view: View,
        connect: Callable[[], Awaitable[object]],
        *,
        ledger_retention_ms: int,
        clock_ms: Callable[[], int],
        security: Security = PLAINTEXT,
    ) -> None:
        self._bootstrap = bootstrap
        self._security = security
        self._data_dir = data_dir
        self._view = view
        self._connect = connect
        self._ledger_retention_ms = ledger_retention_ms
        self._clock_ms = clock_ms

    async def run(self) -> None:
        """Follow the topics until cancelled; raises what `connect` raises."""
        slot = Slot(self._data_dir)
        try:
            while True:
                await self._connect()
                try:
                    await self._follow(slot)
                except TopicsReplaced as error:
                    _log.warning("%s: the view is built anew", error)
                except (KafkaError, OSError) as error:
                    _log.warning("the view cannot read from the Kafka broker at %s: %r", self._bootstrap, error)
                    await asyncio.sleep(_RETRY_PAUSE_S)
                finally:
                    self._view.detach()
        finally:
            slot.close()

    async def _follow(self, slot: Slot) -> None:
        layout = await read_layout(self._bootstrap, TOPICS, self._security)
        partitions = [TopicPartition(name, number) for name in TOPICS for number in range(layout.topics[name][1])]
        async with (
            _consumer(self._bootstrap, self._security, "ebs-api-view") as consumer,
            _consumer(self._bootstrap, self._security, "ebs-api-ends") as asker,
            _consumer(self._bootstrap, self._security, "ebs-api-ends-written", "read_uncommitted") as asker_of_objects,
        ):
            askers = {OBJECTS: asker_of_objects}
            self._view.attach(slot.open(layout), partial(_read_ends, askers, asker, partitions))
            consumer.assign(partitions)
            offsets = self._view.offsets()
            for tp in partitions:
                consumer.seek(tp, offsets.get(tp.topic, {}).get(tp.partition, 0))
            ledger_first = None
            if not any(offsets.get(OBJECTS, {}).values()):
                ledger_first = await self._begin_anew(consumer, asker_of_objects, partitions)
            watch = asyncio.create_task(self._watch(layout))
            freshness = {tp: Freshness() for tp in partitions}
            try:
                while not watch.done():
                    await self._take_in(consumer, freshness)
                    if ledger_first is not None and await ledger_first.is_over():
                        ledger_first = None
                watch.result()
            finally:
                watch.cancel()

    async def _begin_anew(self, consumer: Any, asker: Any, partitions: list[TopicPartition]) -> _LedgerFirst:
        objects = [tp for tp in partitions if tp.topic == OBJECTS]
        # Before anything is awaited: nothing of them may be fetched yet.
        consumer.pause(*objects)
        # In this order: what is counted by then has its row in front of the ends that are asked for after it.
        counted = await read_counted(self._bootstrap, self._security, objects)
        if counted:
            self._view.leave_out(Forgotten(counted, self._clock_ms() - self._ledger_retention_ms))
        ends = await asker.end_offsets([tp for tp in partitions if tp.topic == LEDGER_CHANGELOG])
        return _LedgerFirst(consumer, objects, ends)

    async def _take_in(self, consumer: Any, freshness: Mapping[TopicPartition, Freshness]) -> None:
        records = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
        if records:
            offsets = self._view.offsets()
            for tp, new in records.items():
                if new[0].offset < offsets.get(tp.topic, {}).get(tp.partition, 0):
                    raise TopicsReplaced(f"topic {tp.topic} begins anew")
            self._view.apply({(tp.topic, tp.partition): new for tp, new in records.items()})
        standing = await _standing(consumer, freshness)
        if standing is not None:
            self._view.note_progress(standing.progress, standing.positions)
        # A full buffer answers without waiting; requests must have their turn.
        await asyncio.sleep(0)

    async def _watch(self, layout: Layout) -> None:
        """Return never; raises `TopicsReplaced` when the topics are no longer those of `layout`."""
        while True:
            await asyncio.sleep(_IDENTITY_EVERY_S)
            try:
                now = await read_layout(self._bootstrap, TOPICS, self._security)
            except (KafkaError, OSError):
                continue  # a broker that is away has not replaced anything yet
            if now != layout:
                raise TopicsReplaced(f"the topics at {self._bootstrap} were made anew")


class _LedgerFirst:
    """A view that is built anew reads the ledger's rows before the objects themselves.

    A row says where its object stands now. The other way round each object would enter the index as CREATED and leave
    it again when its row comes: 28 us of CPU time for both records instead of 16 (2026-11-24, 200,000 objects).
    And what is counted and has no row by then is forgotten (see `api.view.forgotten`). `held` is paused; `ends` are of
    all that is written: a step's offsets may show before the broker shows its rows to readers of committed records.
    """

    def __init__(self, consumer: Any, held: list[TopicPartition], ends: Mapping[TopicPartition, int]) -> None:
        self._consumer = consumer
        self._held = held
        self._ends = ends

    async def is_over(self) -> bool:
        """Let the objects come as soon as the rows that were there at the beginning are read; returns whether so."""
        for tp, end in self._ends.items():
            if await self._consumer.position(tp) < end:
                return False
        self._consumer.resume(*self._held)
        return True


@asynccontextmanager
async def _consumer(
    bootstrap: str, security: Security, client_id: str, isolation: str = "read_committed"
) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        **security,
        client_id=client_id,
        isolation_level=isolation,
        enable_auto_commit=False,
        # Where retention took the next offset, reading goes on at the first record that is left.
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def _read_ends(
    askers: Mapping[str, Any], asker: Any, partitions: list[TopicPartition], topic: str = OBJECTS
) -> Ends:
    # By a consumer of its own: a broker answers a connection's requests in turn, so the question would wait for up to
    # half a second behind the fetch that waits for records. Of `objects` the end of all that is written counts: what
    # another API process stored is hidden behind an outside producer's open transaction, and yet no 404.
    asker = askers.get(topic, asker)
    try:
        ends = await asker.end_offsets([tp for tp in partitions if tp.topic == topic])
    except KafkaError as error:
        raise ViewBehind(f"the Kafka broker does not say where {topic} ends ({error!r})") from error
    return {tp.partition: end for tp, end in ends.items()}


async def _standing(consumer: Any, freshness: Mapping[TopicPartition, Freshness]) -> _Standing | None:
    """Return where the consumer stands; None until every partition has been heard of once.

    Partitions that are held back are left out, and nobody knows the lag meanwhile: they would look as if they stood
    still, and without a position the others would, in front of a transaction marker (see `api.view.standstill`).
    """
    held = consumer.paused()
    positions: Offsets = {}
    lag_records = 0
    heard: list[int] = []
    as_of: list[int] = []
    for tp, fresh in freshness.items():
        if tp in held:
            continue
        end, heard_at_ms = consumer.last_stable_offset(tp), consumer.last_poll_timestamp(tp)
        if end is None or heard_at_ms is None:
            return None
        position = await consumer.position(tp)
        positions.setdefault(tp.topic, {})[tp.partition] = position
        lag_records += max(0, end - position)
        fresh.note(position, end, heard_at_ms)
        heard.append(heard_at_ms)
        if fresh.as_of_ms is not None:
            as_of.append(fresh.as_of_ms)
    as_of_ms = min(as_of) if len(as_of) == len(freshness) else None
    return _Standing(positions, Progress(None if held else lag_records, as_of_ms, min(heard)))
