"""Reads partitions up to a point at which inputs and tables of the statistics match, while the statistics run.

A step commits its offsets and its rows together, so for each partition there are offsets of the inputs and ends of the
changelogs that match. To find them, this module asks for the stable offsets, then for the ends of the changelogs, then
for the offsets again. If both offsets are the same and the changelogs have no open transaction, no step committed in
between. Otherwise it asks again.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from app.errors import BrokerError, BrokerUnavailable
from app.kafka.errors import KafkaError
from app.kafka.fencing import fetch_stable_offsets
from app.kafka.types import TopicPartition
from app.names import STATISTICS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from app.kafka.cluster import Cluster
    from app.kafka.reading import RecordReader
    from app.names import Names

_FETCH_BYTES = 4 << 20
_POLL_MS = 200
_PAUSE_S = 0.02


class Stretch(NamedTuple):
    """Records of a partition from `begin` to `end` (exclusive); `begin` is the first offset that the topic has."""

    tp: TopicPartition
    begin: int
    end: int

    @property
    def size(self) -> int:
        """Largest number of records in it."""
        return max(0, self.end - self.begin)


class Cut(NamedTuple):
    """Stretches of one partition that match each other."""

    objects: Stretch
    task_events: Stretch
    ledger: Stretch
    results: Stretch
    windows: Stretch

    @property
    def size(self) -> int:
        """Largest number of records in all stretches."""
        return sum(stretch.size for stretch in self)


class TopicReader:
    """Reads topics of one broker, committed records only; `async with` connects."""

    def __init__(self, cluster: Cluster, names: Names, *, patience_s: float = 30.0) -> None:
        self._group_id = names.group(STATISTICS)
        self._inputs = (names.objects, names.task_events)
        self._changelogs = (names.ledger_changelog, names.results_changelog, names.windows_changelog)
        self._cluster = cluster
        self._patience_s = patience_s
        self._client = cluster.new_client("ebs-recount")
        self._committed = _reader(cluster, self._inputs)
        self._uncommitted = _reader(cluster, self._inputs, "read_uncommitted")

    async def __aenter__(self) -> Self:
        try:
            await self._client.bootstrap()
            await self._committed.start()
            await self._uncommitted.start()
        except KafkaError as error:
            await self.__aexit__()
            raise BrokerUnavailable(
                f"no Kafka broker at {self._cluster.bootstrap} ({error}): start it, or name another one with "
                "--broker HOST:PORT"
            ) from error
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._client.close()
        await self._committed.stop()
        await self._uncommitted.stop()

    async def partitions(self) -> list[int]:
        """Return the numbers of the partitions. Raises `BrokerError` if topics are missing."""
        names = (*self._inputs, *self._changelogs)
        # A new client knows only the partitions of topics that it was told about.
        await self._client.set_topics(names)
        found = {name: self._client.cluster.partitions_for_topic(name) for name in names}
        missing = [name for name, numbers in found.items() if not numbers]
        if missing:
            raise BrokerError(
                f"the broker at {self._cluster.bootstrap} has no topic {missing[0]}: is it the right one?"
            )
        return sorted(found[self._inputs[0]] or ())

    async def cut(self, number: int) -> Cut:
        """Return matching stretches of a partition. Raises `BrokerUnavailable` if a transaction stays open."""
        inputs = [TopicPartition(name, number) for name in self._inputs]
        changelogs = [TopicPartition(name, number) for name in self._changelogs]
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    before = await fetch_stable_offsets(self._client, self._group_id, inputs)
                    ends = await self._uncommitted.end_offsets(changelogs)
                    stable = await self._committed.end_offsets(changelogs)
                    after = await fetch_stable_offsets(self._client, self._group_id, inputs)
                    if before is not None and before == after and ends == stable:
                        break
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise BrokerUnavailable(
                f"partition {number} has an open transaction for {self._patience_s:g} s: try again when it has ended"
            ) from None
        begins = await self._committed.beginning_offsets([*inputs, *changelogs])
        wanted = {tp: committed.offset for tp, committed in before.items()} | ends
        return Cut(*(Stretch(tp, begins[tp], max(begins[tp], wanted[tp])) for tp in (*inputs, *changelogs)))

    async def read(self, stretch: Stretch) -> AsyncIterator[list[Any]]:
        """Yield the records of a stretch. Raises `BrokerUnavailable` if no records come for a while."""
        if not stretch.size:
            return
        tp = stretch.tp
        self._committed.assign([tp])
        self._committed.seek(tp, stretch.begin)
        loop = asyncio.get_running_loop()
        progressed_s = loop.time()
        while await self._committed.position(tp) < stretch.end:
            records = (await self._committed.getmany(tp, timeout_ms=_POLL_MS)).get(tp, [])
            if records:
                progressed_s = loop.time()
                yield [record for record in records if record.offset < stretch.end]
            elif loop.time() - progressed_s > self._patience_s:
                refused = "".join(f": {words}" for words in self._committed.refusals.lasting().values())
                raise BrokerUnavailable(f"{tp.topic}-{tp.partition} cannot be read up to offset {stretch.end}{refused}")

    async def changed_since(self, stretch: Stretch) -> set[bytes]:
        """Return the keys that a changelog has after a stretch: compaction may have deleted their older records."""
        end = (await self._committed.end_offsets([stretch.tp]))[stretch.tp]
        keys: set[bytes] = set()
        async for records in self.read(Stretch(stretch.tp, stretch.end, end)):
            keys.update(record.key for record in records)
        return keys


def _reader(cluster: Cluster, inputs: Sequence[str], isolation_level: str = "read_committed") -> RecordReader:
    return cluster.new_reader(
        "ebs-recount",
        whole=inputs,  # records that cannot be unpacked count for the stream time of the statistics, too
        isolation_level=isolation_level,
        max_partition_fetch_bytes=_FETCH_BYTES,
    )


@asynccontextmanager
async def open_topics(cluster: Cluster, names: Names) -> AsyncIterator[TopicReader]:
    """Connect to a broker. Raises `BrokerError` and `BrokerUnavailable` for all errors of aiokafka."""
    try:
        async with TopicReader(cluster, names) as reader:
            yield reader
    except KafkaError as error:
        raise BrokerError(f"the Kafka broker at {cluster.bootstrap} refuses: {error!r}") from error
