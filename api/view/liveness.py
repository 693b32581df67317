"""Checks whether the read view makes progress, with end offsets from another connection, as workers do.

The feed's own consumer learns the end offsets only from its fetches. If its fetching is frozen, it believes that there
is nothing to read, and the API would answer from an old view for ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from app.kafka.errors import KafkaError
from app.kafka.types import TopicPartition
from app.streaming.progress_monitor import look_period_s, patience_s
from app.streaming.standstill_rule import Sample, StandstillRule

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.view.view import View
    from app.streaming.progress_monitor import EndsReader

_log = logging.getLogger(__name__)


class ViewLiveness:
    """`verdict` says what makes no progress, None if all is well; `run` checks until it is cancelled."""

    def __init__(
        self, view: View, ends: EndsReader, limit_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.period_s = look_period_s(limit_s)
        self.verdict: str | None = None
        self._view = view
        self._ends = ends
        self._clock = clock
        self._rule = StandstillRule(limit_s, max_gap_s=2 * self.period_s + patience_s(limit_s))

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(self.period_s)
        finally:
            await self._ends.close()

    async def look(self) -> None:
        """Take a sample and judge."""
        excuse = "" if self._view.is_attached else "the view waits for its topics"
        try:
            partitions = [
                TopicPartition(topic, number)
                for topic, offsets in self._view.offsets().items()
                for number in offsets
                if not excuse
            ]
            ends = await self._ends.read(partitions)
        except (KafkaError, OSError, TimeoutError) as error:
            _log.debug("cannot read the end offsets of the view's topics: %r", error)
            ends = None
        offsets = self._view.offsets()
        positions = {TopicPartition(topic, n): offset for topic, of in offsets.items() for n, offset in of.items()}
        positions = {tp: offset for tp, offset in positions.items() if tp not in self._view.refused}
        self.verdict = self._rule.observe(Sample(self._clock(), ends, positions, committed_count=0, excuse=excuse))
