"""Which worker gets which partitions: balanced, sticky, co-partitioned.

Co-partitioned: partition p of every topic of a group goes to the same worker, so that a table's changelog and all of
its inputs meet. Balanced: two workers never differ by more than one partition number (Faust's own assignor was
measured to give 2, 2 and 0 of 4 partitions to three workers). Sticky: a worker keeps what it had as far as balance
allows, because each partition that moves is a table to restore (aiokafka's range assignor moves more).

A member may stand aside: it stays in the group, so that it can come back at once, and gets nothing.

The rule is `assign_numbers`, a pure function; `CopartitionedAssignor` speaks aiokafka's protocol around it. It runs on
the group's leader and needs no state there: each member says what it owns in the user data of its join request.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiokafka.cluster import ClusterMetadata

_PROTOCOL_VERSION = 0


class Claim(NamedTuple):
    """The user data of a member that joins: the partition numbers that it owned, the generation, if it stands aside."""

    generation: int
    numbers: frozenset[int]
    aside: bool = False


NO_CLAIM = Claim(-1, frozenset())


class _UserData(msgspec.Struct, array_like=True):
    """A claim on the wire. New fields go to the end, with a default, so that versions understand each other."""

    generation: int
    numbers: list[int]
    aside: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_UserData).decode


def assign_numbers(partition_count: int, claims: Mapping[str, Claim]) -> dict[str, list[int]]:
    """Divide the partition numbers 0 to `partition_count` - 1 among the members of `claims`; each gets a sorted list.

    If two members claim a number, the member with the newer generation gets it: the other member was away. Members that
    stand aside get nothing; if all do, no partition is assigned.
    """
    idle: dict[str, list[int]] = {member: [] for member, claim in claims.items() if claim.aside}
    working = {member: claim for member, claim in claims.items() if not claim.aside}
    return idle | (_divide(partition_count, working) if working else {})


def _divide(partition_count: int, claims: Mapping[str, Claim]) -> dict[str, list[int]]:
    kept = _uncontested(partition_count, claims)
    # The member with the most partitions is served first, so that the surplus partitions do not move.
    members = sorted(claims, key=lambda member: (-len(kept[member]), member))
    quota, odd = divmod(partition_count, len(members))
    assigned: dict[str, list[int]] = {}
    for place, member in enumerate(members):
        limit = quota + (1 if place < odd else 0)
        assigned[member] = sorted(kept[member])[:limit]
    taken = {number for numbers in assigned.values() for number in numbers}
    free = [number for number in range(partition_count) if number not in taken]
    for place, member in enumerate(members):
        wanted = quota + (1 if place < odd else 0) - len(assigned[member])
        assigned[member] = sorted(assigned[member] + free[:wanted])
        free = free[wanted:]
    return assigned


def _uncontested(partition_count: int, claims: Mapping[str, Claim]) -> dict[str, set[int]]:
    kept: dict[str, set[int]] = {member: set() for member in claims}
    for number in range(partition_count):
        claimants = [member for member, claim in claims.items() if number in claim.numbers]
        if claimants:
            kept[min(claimants, key=lambda member: (-claims[member].generation, member))].add(number)
    return kept


class CopartitionedAssignor(AbstractPartitionAssignor):
    """The group protocol `ebs-copartitioned`: one instance for each consumer, which remembers what it owns."""

    name = "ebs-copartitioned"

    def __init__(self) -> None:
        self._claim = NO_CLAIM
        self._said_aside = False
        self.aside = False

    @property
    def is_outdated(self) -> bool:
        """Whether `aside` is not what this member said when it joined: it has to join again."""
        return self.aside != self._said_aside

    def remember(self, generation: int, numbers: Iterable[int]) -> None:
        """Note what this member was assigned, to be claimed when it joins again."""
        self._claim = Claim(generation, frozenset(numbers))

    def forget(self) -> None:
        """Claim nothing at the next join: this member was away, and others own its partitions now."""
        self._claim = NO_CLAIM

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Return the join request of this member (an instance's method where aiokafka has a class method)."""
        self._said_aside = self.aside
        user_data = _encode(_UserData(self._claim.generation, sorted(self._claim.numbers), self._said_aside))
        return ConsumerProtocolMemberMetadata(_PROTOCOL_VERSION, sorted(topics), user_data)

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Do nothing: the generation is not known here, `remember` is called where it is."""

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Divide all topics among the members; topics that the same members read are divided alike."""
        claims = {member: _decode_claim(metadata.user_data) for member, metadata in members.items()}
        subscribers: dict[str, set[str]] = defaultdict(set)
        for member, metadata in members.items():
            for topic in metadata.subscription:
                subscribers[topic].add(member)
        topics_of_group: dict[frozenset[str], list[str]] = defaultdict(list)
        for topic, members_reading in subscribers.items():
            topics_of_group[frozenset(members_reading)].append(topic)

        assignment: dict[str, dict[str, list[int]]] = {member: {} for member in members}
        for readers, topics in topics_of_group.items():
            counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
            numbers = assign_numbers(max(counts.values()), {member: claims[member] for member in readers})
            for member in readers:
                for topic in topics:
                    mine = [number for number in numbers[member] if number < counts[topic]]
                    if mine:
                        assignment[member][topic] = mine
        return {
            member: ConsumerProtocolMemberAssignment(_PROTOCOL_VERSION, sorted(topics.items()), b"")
            for member, topics in assignment.items()
        }


def _decode_claim(user_data: bytes) -> Claim:
    try:
        said = _decode(user_data)
    except (msgspec.DecodeError, TypeError):
        # A member of another version: it claims nothing, and keeps what balance gives it.
        return NO_CLAIM
    return Claim(said.generation, frozenset(said.numbers), said.aside)
