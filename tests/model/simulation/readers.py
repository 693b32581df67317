"""What stands in for aiokafka's consumer where the product reads without a group: to restore tables, and `control`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError

from simulation import requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiokafka import TopicPartition
    from aiokafka.structs import ConsumerRecord

    from simulation.network import Network

_BACKOFF_S = 0.1
_MAX_RECORDS = 50


class SimulatedReaders:
    """The part of a `Cluster` that `restore` and `ControlFeed` use."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @asynccontextmanager
    async def reader(
        self, _client_id: str, *, isolation_level: str = "read_committed", **_differing: Any
    ) -> AsyncIterator[SimulatedReader]:
        """Run a reader."""
        yield SimulatedReader(self._network, isolation_level)


class SimulatedReader:
    """The part of `RecordReader` that these use; like it, it asks again whatever is not answered."""

    def __init__(self, network: Network, isolation_level: str) -> None:
        self._network = network
        self._ends_at = "stable" if isolation_level == "read_committed" else "end"
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._highwater: dict[TopicPartition, int] = {}

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where partitions end."""
        ends: dict[TopicPartition, int] = await self._ask(requests.ListOffsets(partitions, self._ends_at))
        return ends

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Read these partitions."""
        self._positions = dict.fromkeys(partitions, 0)

    async def seek_to_beginning(self, *_partitions: TopicPartition) -> None:
        """Do nothing: reading begins there."""

    async def position(self, tp: TopicPartition) -> int:
        """Return the next offset."""
        return self._positions[tp]

    def highwater(self, tp: TopicPartition) -> int | None:
        """Return where a partition ended when it was read last."""
        return self._highwater.get(tp)

    def pause(self, tp: TopicPartition) -> None:
        """Read no more of a partition."""
        self._paused.add(tp)

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Return committed records."""
        asked = {tp: self._positions[tp] for tp in partitions if tp not in self._paused}
        self._highwater = await self._ask(requests.ListOffsets(partitions, "end"))
        answer = await self._ask(requests.Fetch(asked, _MAX_RECORDS, timeout_ms / 1_000))
        self._positions |= {tp: end for tp, (_, end) in answer.items()}
        return {tp: records for tp, (records, _) in answer.items() if records}

    async def _ask(self, request: Any) -> Any:
        while True:
            try:
                # Each time another one: the broker keeps a request that waits, and a late one must not take its place.
                return await self._network.call("restore", replace(request))
            except (KafkaError, TimeoutError):
                await asyncio.sleep(_BACKOFF_S)
