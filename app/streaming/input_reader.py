"""What a worker's parts ask of its consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import TopicPartition


class Fetching(NamedTuple):
    """What the consumer does: positions of the open partitions (-1: none yet), whether records wait for their agent."""

    positions: Mapping[TopicPartition, int]
    backed_up: bool


class InputReader(Protocol):
    """The part of the consumer that others need; `delivered`: by partition where its agent is."""

    delivered: Mapping[TopicPartition, int]

    def fetching(self) -> Fetching:
        """Return what the consumer does now."""

    async def earliest_offsets_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offset that each partition's log still has."""

    async def end_offsets_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where each partition ends for readers of committed records."""

    async def seek_to(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Go on from these offsets; a partition that is not assigned any more is passed over."""

    def open_partitions(self, partitions: frozenset[TopicPartition]) -> None:
        """Take records of these partitions from now on, and of no others."""
