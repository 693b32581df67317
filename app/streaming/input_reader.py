"""The interface of the consumer for the other parts of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import TopicPartition


class Fetching(NamedTuple):
    """The state of the consumer: positions of the open partitions (-1: none yet), if records wait for their agent."""

    positions: Mapping[TopicPartition, int]
    backed_up: bool


class InputReader(Protocol):
    """The part of the consumer that others need; `delivered`: by partition where its agent is."""

    delivered: Mapping[TopicPartition, int]

    def fetching(self) -> Fetching:
        """Return the state of the consumer now."""

    async def earliest_offsets_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offset that each partition's log still has."""

    async def end_offsets_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where each partition ends for readers of committed records."""

    async def seek_to(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Go on from these offsets; a partition that is not assigned any more is passed over."""

    def open_partitions(self, partitions: frozenset[TopicPartition]) -> None:
        """Take records of these partitions from now on, and of no others."""
