"""A view that no longer reads what there is stands still; one that waits for the broker or its topics does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from api.view.liveness import ViewLiveness

LIMIT_S = 60.0


class Bench:
    """A view at offset 4 of `objects-0`, which ends at 10, and its watch."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.position = 4
        self.end: int | Exception = 10
        self.asked: list[TopicPartition] = []
        self.view: Any = SimpleNamespace(is_attached=True, offsets=lambda: {"objects": {0: self.position}}, refused={})
        self.watch = ViewLiveness(self.view, self, LIMIT_S, clock=lambda: self.now_s)

    async def read(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the ends."""
        self.asked = partitions
        if isinstance(self.end, Exception):
            raise self.end
        return dict.fromkeys(partitions, self.end)

    async def close(self) -> None:
        """Disconnect."""

    async def look_for(self, seconds: float, step: int = 0) -> str | None:
        """Look in the watch's rhythm while the view reads `step` records each time; returns the verdict in the end."""
        for _ in range(round(seconds / self.watch.period_s)):
            self.now_s += self.watch.period_s
            self.position += step
            await self.watch.look()
        return self.watch.verdict


async def test_view_that_does_not_read_makes_no_progress():
    """After the limit, with where it stands."""
    bench = Bench()
    assert await bench.look_for(50) is None
    assert "objects-0 stood still for 65 s at offset 4, with records up to 10" == await bench.look_for(20)


async def test_partition_that_the_broker_cannot_read_is_no_standstill():
    """A new life of the API would change nothing."""
    bench = Bench()
    bench.view.refused = {TopicPartition("objects", 0): "the broker cannot read objects-0"}
    assert await bench.look_for(200) is None


async def test_view_that_reads_or_has_read_everything_does_not():
    """However far it is behind."""
    bench = Bench()
    bench.end = 10**6
    assert await bench.look_for(200, step=1) is None
    bench.end = bench.position
    assert await bench.look_for(200) is None


async def test_broker_that_is_away_is_no_standstill():
    """Nobody knows whether there is anything to read."""
    bench = Bench()
    bench.end = KafkaConnectionError()
    assert await bench.look_for(200) is None


async def test_view_without_a_store_is_no_standstill():
    """It waits for its topics, or is built anew; nobody is asked for their ends."""
    bench = Bench()
    bench.view.is_attached = False
    assert await bench.look_for(200) is None
    assert [] == bench.asked
