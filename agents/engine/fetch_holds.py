"""Back-pressure: the fetching of a lane is held while too much waits in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.kafka.types import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agents.engine.lane import Lane
    from app.streaming.ownership import Ownership


class FetchHolds:
    """Says which of a worker's lanes are held."""

    def __init__(self, lanes: Mapping[tuple[str, int], Lane], ownership: Ownership) -> None:
        self._lanes = lanes
        self._ownership = ownership

    def derive(self, lane: Lane) -> None:
        """Hold the fetching of a lane, or continue it, depending on how much waits in the lane.

        Called wherever that changes: as records are taken, start, and are done, however they came to their end.
        """
        held = lane.must_hold()
        if held != lane.held:
            lane.held = held
            self.publish()

    def needless(self) -> str:
        """Return the partition whose fetching is held although too little waits in it; "" if there is none.

        For the watchdog: there should be none, or the partition would stand still for good.
        """
        for lane in self._lanes.values():
            if lane.held and not lane.must_hold():
                return f"{lane.topic}-{lane.partition.number}"
        return ""

    def publish(self) -> None:
        """Tell the consumer which partitions are held now."""
        held = frozenset(TopicPartition(topic, number) for (topic, number), lane in self._lanes.items() if lane.held)
        self._ownership.hold(held)
