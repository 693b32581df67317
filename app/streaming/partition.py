"""A partition of a worker, and who hears of its coming and going."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from app.streaming.offset_notes import OffsetNote
    from app.streaming.tables import TableStore


class Partition:
    """One partition number of this worker, over all of its input topics.

    `next_offsets` holds by topic the committed offset, the first one not worked yet; `metadata` what was committed
    beside it, `ends` where its log ended for readers of committed records when it was claimed: nobody had read further.
    `kept_to` is up to where it was still the log that was worked, `offset_notes` says which topics were. `members` are
    the ids of the group's members when it was claimed, None if they are not known. Not `active` until restored.
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
    """Somebody who keeps books by partition, such as a processing engine."""

    def partition_ready(self, partition: Partition) -> None:
        """Hear that a partition's records are about to flow, with its committed offsets and metadata."""

    def partition_lost(self, partition: Partition) -> None:
        """Hear that a partition is gone: nothing of it can be committed any more."""
