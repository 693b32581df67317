"""Recounts a whole system, one partition after the other, in slices of objects, so that memory is bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.errors import BrokerError
from ebs.recount.findings import Findings
from ebs.recount.partition import PartitionRecount

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from app.settings.settings import Settings
    from ebs.recount.findings import Difference
    from ebs.recount.reading import Stretch, TopicReader

OBJECTS_PER_SLICE = 50_000
EVENTS_PER_SLICE = 12 * OBJECTS_PER_SLICE
"""About 200 MB. A partition with more objects or events is read several times."""


class Recount:
    """Recounts the topics of `reader`. `advance` is called with the number of offsets read and their known total."""

    def __init__(
        self,
        reader: TopicReader,
        settings: Settings,
        *,
        advance: Callable[[int, int], None] = lambda _done, _total: None,
        objects_per_slice: int = OBJECTS_PER_SLICE,
    ) -> None:
        self._reader = reader
        self._settings = settings
        self._advance = advance
        self._objects_per_slice = objects_per_slice
        self._done = self._total = 0

    async def run(
        self, tell: Callable[[Difference], None] = lambda _difference: None, only: Iterable[int] = ()
    ) -> Findings:
        """Recount all partitions, or `only` some; reports each difference at once, and returns all of them."""
        findings = Findings()
        numbers = await self._reader.partitions()
        unknown = sorted(set(only) - set(numbers))
        if unknown:
            raise BrokerError(f"there is no partition {unknown[0]}: the partitions are 0 to {numbers[-1]}")
        partition_count = len(numbers)
        numbers = sorted(set(only)) or numbers
        for at, number in enumerate(numbers):
            cut = await self._reader.cut(number)
            slice_count = max(
                1, -(-cut.objects.size // self._objects_per_slice), -(-cut.task_events.size // EVENTS_PER_SLICE)
            )
            size = cut.windows.size + slice_count * (cut.size - cut.windows.size)
            # An estimate: the next partitions are as large as this one.
            self._total = self._done + size * (len(numbers) - at)
            recount = PartitionRecount(self._read, cut, self._settings, findings, partition_count)
            found = await recount.run(slice_count, self._reader.changed_since)
            findings.differences += found
            findings.read_to[number] = {one.tp.topic: one.end for one in cut}
            for difference in found:
                tell(difference)
        self._advance(self._done, self._done)
        return findings

    async def _read(self, stretch: Stretch) -> AsyncIterator[list[Any]]:
        at = stretch.begin
        async for records in self._reader.read(stretch):
            if records:
                self._note(records[-1].offset + 1 - at)
                at = records[-1].offset + 1
            yield records
        self._note(stretch.end - at)

    def _note(self, count: int) -> None:
        self._done += max(0, count)
        self._advance(self._done, max(self._done + 1, self._total))
