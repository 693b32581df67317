"""Assignment: every partition once, nobody idle, co-partitioned, and as few moves as balance allows."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from histories import SEEDS
from hypothesis import given, settings
from hypothesis import strategies as st

from app.streaming.assignor import NO_CLAIM, Claim, CopartitionedAssignor, assign_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SOME = settings(max_examples=150, deadline=None)
MEMBERS = st.lists(st.sampled_from([f"m{number}" for number in range(9)]), min_size=1, max_size=9, unique=True)
COUNTS = st.integers(0, 40)


def owners_of(assigned: Mapping[str, list[int]]) -> dict[int, str]:
    """Return who has which number."""
    return {number: member for member, numbers in assigned.items() for number in numbers}


def claims_of(assigned: Mapping[str, list[int]], members: Iterable[str], generation: int = 1) -> dict[str, Claim]:
    """Return what members claim after an assignment; who was not in it claims nothing."""
    return {
        member: Claim(generation, frozenset(assigned[member])) if member in assigned else NO_CLAIM for member in members
    }


def random_claims(members: Iterable[str], count: int, seed: int) -> dict[str, Claim]:
    """Return claims of any kind: contested numbers, numbers that do not exist, old generations."""
    draw = random.Random(seed)
    return {
        member: Claim(draw.randrange(-1, 4), frozenset(draw.choices(range(-1, count + 2), k=draw.randrange(count + 1))))
        for member in members
    }


@SOME
@given(MEMBERS, COUNTS, SEEDS)
def test_each_number_goes_to_one_member_and_all_have_equally_many(members, count, seed):
    """Whatever is claimed: every number once, sorted, and no member has two more than another."""
    assigned = assign_numbers(count, random_claims(members, count, seed))
    assert sorted(members) == sorted(assigned)
    assert list(range(count)) == sorted(number for numbers in assigned.values() for number in numbers)
    assert all(sorted(numbers) == numbers for numbers in assigned.values())
    sizes = [len(numbers) for numbers in assigned.values()]
    assert max(sizes) - min(sizes) <= 1


@SOME
@given(MEMBERS, COUNTS, SEEDS)
def test_member_keeps_what_it_owns_up_to_its_share(members, count, seed):
    """A partition that moves is a table to restore: who owned something keeps it as far as balance allows."""
    draw = random.Random(seed)
    owned: dict[str, set[int]] = {member: set() for member in members}
    for number in range(count):
        owner = draw.choice([*members, None])
        if owner is not None:
            owned[owner].add(number)
    assigned = assign_numbers(count, {member: Claim(1, frozenset(numbers)) for member, numbers in owned.items()})
    for member, numbers in assigned.items():
        assert min(len(owned[member]), count // len(members)) <= len(owned[member] & set(numbers))
        assert min(len(owned[member]), len(numbers)) == len(owned[member] & set(numbers))


@SOME
@given(MEMBERS, COUNTS)
def test_unchanged_group_keeps_everything(members, count):
    """A rebalance for no reason moves nothing."""
    first = assign_numbers(count, dict.fromkeys(members, NO_CLAIM))
    assert first == assign_numbers(count, claims_of(first, members))


@SOME
@given(MEMBERS, COUNTS)
def test_joining_member_takes_only_its_share(members, count):
    """Nothing moves between those who were there."""
    before = assign_numbers(count, dict.fromkeys(members, NO_CLAIM))
    after = assign_numbers(count, claims_of(before, [*members, "new"]))
    old, new = owners_of(before), owners_of(after)
    moved = {number for number in range(count) if old[number] != new[number]}
    assert set(after["new"]) == moved
    assert len(moved) <= -(-count // (len(members) + 1))


@SOME
@given(MEMBERS, COUNTS)
def test_leaving_member_leaves_only_its_own(members, count):
    """Those who stay keep all that they had."""
    members = [*members, "leaver"]
    before = assign_numbers(count, dict.fromkeys(members, NO_CLAIM))
    after = assign_numbers(count, claims_of(before, members[:-1]))
    old, new = owners_of(before), owners_of(after)
    assert set(before["leaver"]) == {number for number in range(count) if old[number] != new[number]}


def test_contested_number_goes_to_the_newer_generation():
    """The other one was away: what it thinks it owns was worked by somebody else."""
    claims = {"away": Claim(3, frozenset({0, 1})), "present": Claim(7, frozenset({0, 1}))}
    assert {"away": [2, 3], "present": [0, 1]} == assign_numbers(4, claims)


def test_claim_of_nobody_counts_less_than_any():
    """A member of an unknown version claims nothing and still gets its share."""
    assert {"old": [1], "new": [0]} == assign_numbers(2, {"old": NO_CLAIM, "new": Claim(0, frozenset({0}))})


@SOME
@given(MEMBERS, COUNTS, SEEDS, st.data())
def test_members_that_stand_aside_get_nothing_and_the_others_all(members, count, seed, data):
    """They are counted as if they were not there; if all stand aside, nobody works."""
    idle = data.draw(st.sets(st.sampled_from(members)))
    claims = {
        member: claim._replace(aside=member in idle) for member, claim in random_claims(members, count, seed).items()
    }
    assigned = assign_numbers(count, claims)
    assert {member: [] for member in idle} == {member: assigned[member] for member in idle}
    working = {member: claim for member, claim in claims.items() if member not in idle}
    assert (assign_numbers(count, working) if working else {}) == {member: assigned[member] for member in working}


class FakeCluster:
    """The topics of a broker with their partition counts."""

    def __init__(self, **counts: int) -> None:
        self._counts = counts

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Return the partition numbers of a topic."""
        return set(range(self._counts[topic])) if topic in self._counts else None


def joining(*topics: str, claim: Claim = NO_CLAIM) -> ConsumerProtocolMemberMetadata:
    """Return the join request of a member that reads topics."""
    assignor = CopartitionedAssignor()
    if claim is not NO_CLAIM:
        assignor.remember(claim.generation, claim.numbers)
    assignor.aside = claim.aside
    return assignor.metadata(set(topics))


def divide(cluster: FakeCluster, members: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Run the assignor as the group's leader does; the result is read back from the bytes that go over the wire."""
    assignor: Any = CopartitionedAssignor
    answers = assignor.assign(cluster, members)
    return {
        member: {topic: list(numbers) for topic, numbers in type(answer).decode(answer.encode()).assignment}
        for member, answer in answers.items()
    }


@SOME
@given(MEMBERS, st.integers(1, 40), SEEDS)
def test_topics_of_a_group_are_divided_the_same_way(members, count, seed):
    """Partition p of every topic goes to the same member: a table and all of its inputs meet."""
    claims = random_claims(members, count, seed)
    cluster = FakeCluster(objects=count, events=count)
    divided = divide(cluster, {member: joining("objects", "events", claim=claims[member]) for member in members})
    assert set(members) == set(divided)
    assert all(topics.get("objects") == topics.get("events") for topics in divided.values())
    assert list(range(count)) == sorted(number for topics in divided.values() for number in topics.get("objects", ()))


def test_claims_travel_in_the_join_request():
    """The leader needs no memory: what a member says that it owns comes back to it."""
    members = {
        "a": joining("objects", claim=Claim(5, frozenset({2, 3}))),
        "b": joining("objects", claim=Claim(5, frozenset({0, 1}))),
    }
    assert {"a": {"objects": [2, 3]}, "b": {"objects": [0, 1]}} == divide(FakeCluster(objects=4), members)


def test_standing_aside_travels_in_the_join_request():
    """The leader gives the partitions to the others; who stands aside stays in the group with none."""
    members = {"a": joining("objects", claim=Claim(5, frozenset({0, 1}), aside=True)), "b": joining("objects")}
    assert {"a": {}, "b": {"objects": [0, 1, 2, 3]}} == divide(FakeCluster(objects=4), members)


def test_member_of_the_version_before_takes_part():
    """It says nothing of standing aside."""
    members = {"a": ConsumerProtocolMemberMetadata(0, ["objects"], b"[5,[2,3]]"), "b": joining("objects")}
    assert {"a": {"objects": [2, 3]}, "b": {"objects": [0, 1]}} == divide(FakeCluster(objects=4), members)


def test_wish_is_outdated_until_the_next_join():
    """So that a wish that comes while a rebalance runs is not forgotten."""
    assignor = CopartitionedAssignor()
    assignor.metadata({"objects"})
    assert not assignor.is_outdated
    assignor.aside = True
    assert assignor.is_outdated
    assignor.metadata({"objects"})
    assert not assignor.is_outdated


def test_member_that_forgot_claims_nothing():
    """Who was away joins as if new, and what it had stays with those who have it now."""
    assignor = CopartitionedAssignor()
    assignor.remember(5, {0, 1})
    assignor.forget()
    members = {"a": assignor.metadata({"objects"}), "b": joining("objects", claim=Claim(1, frozenset({0, 1})))}
    assert {"a": {"objects": [2, 3]}, "b": {"objects": [0, 1]}} == divide(FakeCluster(objects=4), members)


@pytest.mark.parametrize("user_data", [b"", b"garbage", b"[1]", b'{"a":1}', b'["x",[]]', b"[1,[1.5]]"])
def test_member_of_another_version_gets_its_share(user_data):
    """What cannot be read is no claim, and no reason to fail the whole group."""
    members = {"a": ConsumerProtocolMemberMetadata(0, ["objects"], user_data), "b": joining("objects")}
    assert {2} == {len(topics["objects"]) for topics in divide(FakeCluster(objects=4), members).values()}


def test_topic_that_only_some_members_read_is_divided_among_them():
    """As while a new version with one more topic is rolled out."""
    cluster = FakeCluster(objects=4, events=4)
    divided = divide(cluster, {"old": joining("objects"), "new": joining("objects", "events")})
    assert {"new": [0, 1, 2, 3]} == {
        member: topics["events"] for member, topics in divided.items() if "events" in topics
    }
    assert [0, 1, 2, 3] == sorted(number for topics in divided.values() for number in topics["objects"])


def test_topic_that_does_not_exist_is_nobodys():
    """Nothing is assigned that cannot be read, and the others are."""
    divided = divide(FakeCluster(objects=2), {"a": joining("objects", "missing")})
    assert {"a": {"objects": [0, 1]}} == divided


def test_uneven_topics_are_divided_by_number():
    """Partition counts that differ are refused at the start; here each partition still goes to one member."""
    divided = divide(
        FakeCluster(objects=4, events=2), {"a": joining("objects", "events"), "b": joining("objects", "events")}
    )
    assert [0, 1, 2, 3] == sorted(number for topics in divided.values() for number in topics["objects"])
    assert [0, 1] == sorted(number for topics in divided.values() for number in topics.get("events", ()))
