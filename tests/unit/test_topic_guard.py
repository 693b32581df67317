"""The guard of the topics on a broker in memory: who may use what, whoever died when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from app.errors import ForeignTopics, TopicMismatch
from app.settings.settings import load
from app.topics.catalogue import catalogue
from app.topics.guard import TopicGuard
from app.topics.ownership import TopicClaim, take_claim
from app.topics.shapes import TopicShape

SPECS = {spec.name: spec for spec in catalogue(load())}
REGISTRY = "ebs-topics"
LAST_LOOK = 5


@dataclass
class MemoryRegistry:
    """A broker's topics by name, with their ids, and what was claimed."""

    topic: str = REGISTRY
    ids: dict[str, str] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    claims: dict[str, TopicClaim] = field(default_factory=dict)
    last: dict[str, TopicClaim] = field(default_factory=dict)
    writes: int = 0

    async def read(self) -> dict[str, TopicClaim]:
        """Return what was claimed."""
        return dict(self.claims)

    async def topic_ids(self, names: Any) -> dict[str, str]:
        """Return the ids of those that exist."""
        return {name: self.ids[name] for name in names if name in self.ids}

    async def empty_of(self, partition_counts: Any) -> set[str]:
        """Return those that nobody wrote to."""
        return set(partition_counts) - self.written

    async def write(self, topic_ids: Any, *, adopted: bool = False) -> dict[str, TopicClaim]:
        """Claim."""
        noted = {name: TopicClaim(topic_id, 1, adopted) for name, topic_id in topic_ids.items()}
        self.last |= noted
        for name, claim in noted.items():
            take_claim(self.claims, name, claim)
        self.writes += bool(noted)
        return noted


def shapes(*names: str, partition_count: int = 0) -> dict[str, TopicShape]:
    """Return topics as the catalogue wants them, or with another partition count, and the registry."""
    return {
        name: TopicShape(name, partition_count or SPECS[name].partition_count, 1, frozenset(["delete"]))
        for name in names
    } | {REGISTRY: TopicShape(REGISTRY, 1, 1)}


async def judge(registry: MemoryRegistry, found: dict[str, TopicShape], *, made: Any = (), adopt: bool = False) -> Any:
    """Ask until the guard has an answer, as `ensure_topics` does."""
    guard = TopicGuard(list(SPECS.values()), cast("Any", registry), "kafka:9092", adopt=adopt)
    for _ in range(10):
        answer = await guard.made_by_us(found, set(made))
        if answer is not None:
            return answer
    raise AssertionError("it asks for ever")


async def test_topic_that_was_just_made_is_noted_with_its_id_at_once():
    """Even if an outside producer has written to it already."""
    registry = MemoryRegistry(ids={"objects": "a"}, written={"objects"}, claims={"objects": TopicClaim("", 1)})
    assert {"objects"} == await judge(registry, shapes("objects"), made=["objects"])
    assert TopicClaim("a", 1) == registry.claims["objects"]


async def test_process_that_died_between_claim_and_note_locks_nobody_out():
    """The topic is empty and as we make it: the next one notes it, but will never offer to delete it."""
    registry = MemoryRegistry(ids={"objects": "a"}, claims={"objects": TopicClaim("", 1)})
    assert frozenset() == await judge(registry, shapes("objects"))
    assert TopicClaim("a", 1, adopted=True) == registry.claims["objects"]


async def test_topic_that_holds_records_before_it_was_noted_is_refused_in_the_end():
    """Nobody can say whose they are; a second or two is enough for whoever made it to note it."""
    registry = MemoryRegistry(ids={"objects": "a"}, written={"objects"}, claims={"objects": TopicClaim("", 1)})
    with pytest.raises(ForeignTopics, match="topic objects exists"):
        await judge(registry, shapes("objects"))
    assert not registry.writes


async def test_other_process_that_notes_its_topic_in_time_is_believed():
    """Many workers start at once, and one makes the topics."""
    registry = MemoryRegistry(ids={"objects": "a"}, written={"objects"}, claims={"objects": TopicClaim("", 1)})
    guard = TopicGuard(list(SPECS.values()), cast("Any", registry), "kafka:9092", adopt=False)
    assert await guard.made_by_us(shapes("objects"), set()) is None
    registry.claims["objects"] = TopicClaim("a", 2)
    assert {"objects"} == await guard.made_by_us(shapes("objects"), set())
    assert not registry.writes


@pytest.mark.parametrize("claim", [None, TopicClaim("other", 1)])
async def test_foreign_topic_is_refused_and_nothing_is_noted(claim):
    """Never heard of, or another one under the name of one that we knew."""
    claims = {} if claim is None else {"objects": claim}
    registry = MemoryRegistry(ids={"objects": "a"}, written={"objects"}, claims=claims)
    with pytest.raises(ForeignTopics, match="EBS_NAMESPACE"):
        await judge(registry, shapes("objects"))
    assert not registry.writes


async def test_topics_without_any_notes_are_refused_before_anything_is_made():
    """A broker of an older version, or somebody else's: the registry is not even made."""
    found = {"objects": shapes("objects")["objects"]}
    with pytest.raises(ForeignTopics, match=f"noted in {REGISTRY}, which does not exist"):
        await judge(MemoryRegistry(ids={"objects": "a"}), found)
    assert frozenset() == await judge(MemoryRegistry(), {})


async def test_adoption_notes_what_exists_and_only_what_fits():
    """One command; a topic of another shape cannot be ours, and stays as it is."""
    registry = MemoryRegistry(ids={"objects": "a", "task-events": "b"}, written={"objects"})
    assert frozenset() == await judge(registry, shapes("objects", "task-events"), adopt=True)
    assert {"a", "b"} == {claim.topic_id for claim in registry.claims.values() if claim.adopted}
    assert frozenset() == await judge(registry, shapes("objects", "task-events"))
    registry = MemoryRegistry(ids={"objects": "a"})
    with pytest.raises(TopicMismatch) as refusal:
        await judge(registry, shapes("objects", partition_count=3), adopt=True)
    assert ("--delete" in str(refusal.value), registry.writes) == (False, 0)


async def test_topics_that_are_noted_cost_no_write():
    """Workers whose user may only read `ebs-topics` start."""
    registry = MemoryRegistry(ids={"objects": "a"}, claims={"objects": TopicClaim("a", 1)})
    assert {"objects"} == await judge(registry, shapes("objects"))
    assert not registry.writes


class NotedMeanwhile(MemoryRegistry):
    """Whoever made a topic notes its id, and writes to it, just before the last look at what is empty."""

    async def empty_of(self, partition_counts: Any) -> set[str]:
        """Return those that nobody wrote to, after the maker had its turn."""
        self.looks = getattr(self, "looks", 0) + 1
        if self.looks == LAST_LOOK:
            self.claims["objects"] = TopicClaim(self.ids["objects"], 1)
            self.written.add("objects")
        return await super().empty_of(partition_counts)


async def test_topic_that_is_noted_and_written_to_during_a_look_is_ours():
    """Seen on a busy machine: workers start together, and the one that makes the topics is slow."""
    registry = NotedMeanwhile(ids={"objects": "a"}, claims={"objects": TopicClaim("", 1)})
    assert {"objects"} == await judge(registry, shapes("objects"))


@pytest.mark.parametrize("adopted", [False, True])
async def test_claim_that_comes_after_the_note_of_another_process_takes_nothing_away(adopted):
    """Both saw that the topic was missing; the slow one finds it made, noted and written to, and notes it again.

    Seen on a busy machine: it ended, and so did each process that started after it.
    """
    note = TopicClaim("a", 1, adopted)
    registry = MemoryRegistry(ids={"objects": "a"}, written={"objects"}, claims={"objects": note})
    guard = TopicGuard(list(SPECS.values()), cast("Any", registry), "kafka:9092", adopt=False)
    await guard.claim(["objects"])
    assert (set() if adopted else {"objects"}) == await guard.made_by_us(shapes("objects"), set())
    assert note == registry.last["objects"]  # which compaction keeps
