"""The requests of the model's own consumer and readers; those of transactions are aiokafka's and the product's.

Each is what the protocol's request of that key says, without its encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import TopicPartition


class PlainRequest:
    """A request that needs no version."""

    API_KEY: ClassVar[int]

    def prepare(self, _versions: object) -> PlainRequest:
        """Return itself."""
        return self


@dataclass(frozen=True, eq=False)
class Fetch(PlainRequest):
    """Committed records from offsets on; answered once there is something, or after `max_wait_s`."""

    API_KEY = 1
    positions: Mapping[TopicPartition, int]
    max_records: int
    max_wait_s: float


@dataclass(frozen=True)
class ListOffsets(PlainRequest):
    """Where partitions begin or end: "earliest", "stable" or "end"."""

    API_KEY = 2
    partitions: Sequence[TopicPartition]
    which: str


@dataclass(frozen=True)
class PlainOffsetFetch(PlainRequest):
    """Committed offsets, whether or not an open transaction is about to change them."""

    API_KEY = 9
    group_id: str
    partitions: Sequence[TopicPartition]


@dataclass(frozen=True)
class OffsetCommit(PlainRequest):
    """Offsets outside of any transaction; the product never sends it, a switch of `sabotage` does."""

    API_KEY = 8
    group_id: str
    offsets: Mapping[TopicPartition, tuple[int, str]]


@dataclass(frozen=True)
class PlainProduce(PlainRequest):
    """Records outside of any transaction."""

    API_KEY = 0
    records: Mapping[TopicPartition, Sequence[tuple[bytes | None, bytes | None]]]


@dataclass(frozen=True)
class JoinGroup(PlainRequest):
    """Join a group, under a member id or none."""

    API_KEY = 11
    group_id: str
    member_id: str
    session_s: float
    metadata: Any


@dataclass(frozen=True)
class SyncGroup(PlainRequest):
    """Ask for the assignment; the leader brings everybody's."""

    API_KEY = 14
    group_id: str
    member_id: str
    generation: int
    assignments: Mapping[str, Any]


@dataclass(frozen=True)
class Heartbeat(PlainRequest):
    """Say that a member lives."""

    API_KEY = 12
    group_id: str
    member_id: str
    generation: int


@dataclass(frozen=True)
class LeaveGroup(PlainRequest):
    """Leave a group at once."""

    API_KEY = 13
    group_id: str
    member_id: str
