"""How far behind a reader is, also while it never quite catches up."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from api.view.view import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka import TopicPartition

    from api.view.store import Offsets

_MAX_SAMPLES = 64


class _Sample(NamedTuple):
    end: int
    heard_at_ms: int


class Freshness:
    """The last instant of which a reader has everything of one partition (epoch ms; None: not known yet).

    The broker says with each fetch where the partition ended at that moment. Once the reader has come that far, it
    holds all of that moment, however much has come since: under load there is always something left to read, which
    would otherwise look like a view that falls behind.
    """

    def __init__(self) -> None:
        self.as_of_ms: int | None = None
        self._samples: deque[_Sample] = deque()

    def note(self, position: int, end: int, heard_at_ms: int) -> None:
        """Take in the next offset to read, and what the broker said last."""
        samples = self._samples
        if not samples or samples[-1].heard_at_ms != heard_at_ms:
            if len(samples) == _MAX_SAMPLES:
                # Coarser from here on: far behind nobody needs to know to the millisecond.
                self._samples = samples = deque(list(samples)[::2])
            samples.append(_Sample(end, heard_at_ms))
        while samples and samples[0].end <= position:
            self.as_of_ms = samples.popleft().heard_at_ms


class Standing(NamedTuple):
    """Where a consumer stands: the next offsets, and how far behind they are."""

    positions: Offsets
    progress: Progress


async def standing_of(consumer: Any, freshness: Mapping[TopicPartition, Freshness]) -> Standing | None:
    """Return where the consumer stands; None until every partition has been heard of once.

    Partitions that are held back, or that the broker cannot read, are left out, and nobody knows the lag meanwhile:
    they would look as if they stood still, and without a position the others would, in front of a transaction marker
    (see `api.view.standstill`).
    """
    held = consumer.paused() | consumer.refusals.lasting().keys()
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
    return Standing(positions, Progress(None if held else lag_records, as_of_ms, min(heard)))
