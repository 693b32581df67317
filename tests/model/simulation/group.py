"""A consumer group: members, generations and rebalances; committed offsets, and those of open transactions.

The classic protocol (JoinGroup, SyncGroup, Heartbeat), as Kafka's coordinator speaks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiokafka import TopicPartition

    from simulation.trace import Trace

ILLEGAL_GENERATION = 22
UNKNOWN_MEMBER_ID = 25
REBALANCE_IN_PROGRESS = 27
UNSTABLE_OFFSET_COMMIT = 88
NOTHING_COMMITTED = (-1, "")


class State(Enum):
    """Where a group is."""

    EMPTY = "Empty"
    JOINING = "PreparingRebalance"
    SYNCING = "CompletingRebalance"
    STABLE = "Stable"


class Joined(NamedTuple):
    """The answer to a JoinGroup; the leader gets everybody's metadata."""

    error_code: int
    generation: int = -1
    member_id: str = ""
    leader: str = ""
    members: Mapping[str, Any] | None = None


class Synced(NamedTuple):
    """The answer to a SyncGroup."""

    error_code: int
    assignment: Any = None


@dataclass(eq=False, slots=True)
class Member:
    """A member: what it wants, what waits for an answer, and until when it is believed to live."""

    member_id: str
    client_id: str
    session_s: float
    metadata: Any
    assignment: Any = None
    joining: Callable[[Joined], None] | None = None
    syncing: Callable[[Synced], None] | None = None
    beats: int = 0


class Group:
    """One group; `later` calls a function after so many seconds."""

    def __init__(self, group_id: str, trace: Trace, *, later: Callable[..., None]) -> None:
        self.group_id = group_id
        self.state = State.EMPTY
        self.generation = 0
        self.members: dict[str, Member] = {}
        self.offsets: dict[TopicPartition, tuple[int, str]] = {}
        self._pending: dict[int, dict[TopicPartition, tuple[int, str]]] = {}
        self._trace = trace
        self._later = later
        self._leader = ""
        self._joined_count = 0
        self._round = 0

    def join(
        self, member_id: str, client_id: str, session_s: float, metadata: Any, reply: Callable[[Joined], None]
    ) -> None:
        """Let a member in (without an id: a new one), once everybody else has joined again or had the time for it."""
        if member_id and member_id not in self.members:
            reply(Joined(UNKNOWN_MEMBER_ID))
            return
        if not member_id:
            self._joined_count += 1
            member_id = f"{client_id}-{self._joined_count:012d}"
            self.members[member_id] = Member(member_id, client_id, session_s, metadata)
        member = self.members[member_id]
        member.metadata, member.joining = metadata, reply
        self._watch(member)
        if self.state is not State.JOINING:
            self._rebalance()
        self._complete_join()

    def sync(
        self, member_id: str, generation: int, assignments: Mapping[str, Any], reply: Callable[[Synced], None]
    ) -> None:
        """Give a member its part once the leader has divided."""
        code = self._check(member_id, generation)
        if code or self.state is State.JOINING:
            reply(Synced(code or REBALANCE_IN_PROGRESS))
            return
        member = self.members[member_id]
        self._watch(member)
        if self.state is State.STABLE:
            reply(Synced(0, member.assignment))
            return
        member.syncing = reply
        if member_id == self._leader:
            self.state = State.STABLE
            for one in self.members.values():
                one.assignment = assignments.get(one.member_id)
                if one.syncing is not None:
                    one.syncing(Synced(0, one.assignment))
                    one.syncing = None

    def beat(self, member_id: str, generation: int) -> int:
        """Take a heartbeat; returns an error code."""
        code = self._check(member_id, generation)
        if code:
            return code
        self._watch(self.members[member_id])
        return REBALANCE_IN_PROGRESS if self.state is State.JOINING else 0

    def leave(self, member_id: str) -> int:
        """Let a member go at once; returns an error code."""
        if member_id not in self.members:
            return UNKNOWN_MEMBER_ID
        self._remove(self.members[member_id], "leaves")
        return 0

    def commit(
        self,
        producer_id: int,
        membership: tuple[int, str],
        offsets: Mapping[TopicPartition, tuple[int, str]],
    ) -> int:
        """Take offsets into a producer's open transaction; returns an error code.

        Who names neither generation nor member id is taken for a client from before KIP-447, and may.
        """
        generation, member_id = membership
        if generation >= 0 or member_id:
            code = self._check(member_id, generation)
            if code:
                return code
        self._pending.setdefault(producer_id, {}).update(offsets)
        return 0

    def commit_plainly(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commit offsets outside of any transaction."""
        self.offsets.update(offsets)

    def decide(self, producer_id: int, *, is_commit: bool) -> None:
        """End what a producer's transaction has pending."""
        pending = self._pending.pop(producer_id, {})
        if is_commit:
            self.offsets.update(pending)

    def committed(self, tp: TopicPartition, *, require_stable: bool) -> tuple[int, tuple[int, str]]:
        """Return an error code, and the committed offset and metadata."""
        is_unstable = require_stable and any(tp in pending for pending in self._pending.values())
        return UNSTABLE_OFFSET_COMMIT if is_unstable else 0, self.offsets.get(tp, NOTHING_COMMITTED)

    def _check(self, member_id: str, generation: int) -> int:
        if member_id not in self.members:
            return UNKNOWN_MEMBER_ID
        return 0 if generation == self.generation else ILLEGAL_GENERATION

    def _watch(self, member: Member) -> None:
        member.beats += 1
        self._later(member.session_s, self._expire, member, member.beats)

    def _expire(self, member: Member, beats: int) -> None:
        if self.members.get(member.member_id) is member and member.beats == beats and member.joining is None:
            self._remove(member, "has not been heard of")

    def _remove(self, member: Member, why: str) -> None:
        self._trace.note("%s: %s %s", self.group_id, member.member_id, why)
        del self.members[member.member_id]
        if not self.members:
            self.state = State.EMPTY
            self._round += 1
        elif self.state is State.JOINING:
            self._complete_join()
        else:
            self._rebalance()

    def _rebalance(self) -> None:
        self.state = State.JOINING
        self._round += 1
        for member in self.members.values():
            if member.syncing is not None:
                member.syncing(Synced(REBALANCE_IN_PROGRESS))
                member.syncing = None
        longest_s = max(member.session_s for member in self.members.values())
        self._later(longest_s, self._end_waiting, self._round)

    def _end_waiting(self, number: int) -> None:
        """Go on without those that have not joined again in time."""
        if self.state is not State.JOINING or self._round != number:
            return
        for member in [one for one in self.members.values() if one.joining is None]:
            self._trace.note("%s: %s has not joined again", self.group_id, member.member_id)
            del self.members[member.member_id]
        self._complete_join()

    def _complete_join(self) -> None:
        if not self.members:
            self.state = State.EMPTY
            return
        if any(member.joining is None for member in self.members.values()):
            return
        self.generation += 1
        self.state = State.SYNCING
        self._leader = next(iter(self.members))
        metadata = {member.member_id: member.metadata for member in self.members.values()}
        self._trace.note("%s: generation %d of %s", self.group_id, self.generation, ", ".join(self.members))
        for member in self.members.values():
            assert member.joining is not None
            is_leader = member.member_id == self._leader
            answer = Joined(0, self.generation, member.member_id, self._leader, metadata if is_leader else None)
            member.joining(answer)
            member.joining = None
            self._watch(member)
