"""A partition of a worker, and the interface of parts that follow its assignment and revocation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from app.streaming.offset_notes import OffsetNote
    from app.streaming.stores import TableStore


class Partition:
    """One partition number of this worker, over all of its input topics.

    By topic: `next_offsets` has the committed offset, the first one that is not processed yet; `metadata` is from the
    same commit; `ends` has the last stable offset at the claim: no owner had read further. Up to `kept_to` the log
    still had the processed records; `offset_notes` says which topics were processed. `members` are the ids of the
    group's members at the claim, None if they are not known. Not `active` until restored.
    """

    __slots__ = ("active", "ends", "kept_to", "members", "metadata", "next_offsets", "number", "offset_notes", "stores")

    def __init__(self, number: int) -> None:
        self.number = number
        self.next_offsets: dict[str, int] = {}
        self.metadata: dict[str, str] = {}
        self.ends: dict[str, int] = {}
        self.kept_to: dict[str, int] = {}
        self.offset_notes: dict[str, OffsetNote] = {}
        self.members: frozenset[str] | None = None
        self.stores: dict[str, TableStore] = {}
        self.active = False


class PartitionObserver(Protocol):
    """A part that keeps state by partition, such as the processing engine."""

    def partition_ready(self, partition: Partition) -> None:
        """Hear that a partition's records are about to flow, with its committed offsets and metadata."""

    def partition_lost(self, partition: Partition) -> None:
        """Handle the loss of a partition: nothing of it can be committed any more."""
