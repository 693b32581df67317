"""Checks, at each change of a leader, that the logs still contain the records that the worker has read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from app.errors import StepFailed
from app.kafka.leader_epochs import NO_EPOCH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from app.streaming.batching import RecordBatch

_RETRY_S = 0.1


class LogsInUse:
    """Remembers the leader epoch of the last batch of each partition; `read_ends` is `read_epoch_ends` of a client.

    A claim checks once. This check also notices a broker that comes back with another log later, even if the new log is
    longer than the lost one at the next fetch.
    """

    def __init__(
        self, read_ends: Callable[[Mapping[TopicPartition, int]], Awaitable[dict[TopicPartition, int] | None]]
    ) -> None:
        self._read_ends = read_ends
        self._epochs: dict[TopicPartition, int] = {}
        self._assignment: object = None

    async def check(self, batches: list[RecordBatch], committed: Mapping[TopicPartition, int]) -> list[RecordBatch]:
        """Return the batches; `committed` has the leader epochs of the records before this assignment.

        Raises `StepFailed` if records that were read are lost.
        """
        if batches[0].assignment is not self._assignment:
            self._assignment = batches[0].assignment
            self._epochs.clear()
        epochs, doubtful = self._epochs, {}
        for batch in batches:
            tp = TopicPartition(batch.topic, batch.partition)
            known = epochs[tp] if tp in epochs else committed.get(tp, NO_EPOCH)
            if NO_EPOCH < known < batch.first_epoch:
                doubtful[tp] = known, batch.start
            epochs[tp] = max(known, batch.leader_epoch)
        if doubtful:
            await self._ask(doubtful)
        return batches

    async def _ask(self, doubtful: Mapping[TopicPartition, tuple[int, int]]) -> None:
        epochs = {tp: epoch for tp, (epoch, _) in doubtful.items()}
        while (ends := await self._read_ends(epochs)) is None:  # noqa: ASYNC110  # a broker, not an event
            await asyncio.sleep(_RETRY_S)
        for tp, (_, start) in doubtful.items():
            if ends[tp] < start:
                raise StepFailed(
                    f"{tp.topic}-{tp.partition} was read up to offset {start}, and the broker has lost its records "
                    f"from {ends[tp]} on: others have their offsets now"
                )
