"""The survey of a cluster: topics that change, partitions that nobody has, brokers that a commit would miss."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaConnectionError
from fake_coordinator import FakeCoordinator

from app.errors import InputsChanged
from app.kafka.cluster import Cluster
from app.streaming.survey import ClusterIncomplete, Survey


class World:
    """A worker of `in` that owns partition 0, and a cluster."""

    def __init__(self) -> None:
        self.cluster = FakeCoordinator()
        self.aside = False
        self.ownership: Any = SimpleNamespace(
            group_id="group",
            input_topics=("in",),
            topic_ids={},
            partitions={0: object()},
            membership=object(),
            is_suspended=False,
        )
        self.survey = Survey(
            Cluster("nowhere:9092"),
            ["in", "other"],
            self.ownership,
            transactional_id="t",
            patience_s=1,
            stands_aside=lambda: self.aside,
        )
        self.survey._client = self.cluster  # type: ignore[assignment]

    def assign(self, *numbers: int) -> None:
        """Let the group have one member, with these partitions."""
        assignment = ConsumerProtocolMemberAssignment(0, [("in", list(numbers))], b"")
        self.cluster.assignments = [assignment.encode()]


@pytest.fixture
def world() -> World:
    """Return a cluster where all is well."""
    return World()


async def test_what_stays_as_it_was_is_fine(world):
    """However often one looks."""
    for _ in range(5):
        await world.survey.look()
    assert () == world.survey.unowned


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cluster: cluster.topic_ids.update({"other": "recreated"}), "topic other was deleted and recreated"),
        (lambda cluster: cluster.topic_ids.update({"in": ""}), "topic in is gone"),
        (lambda cluster: setattr(cluster, "partition_count", 5), "topic in has 5 partitions now, it had 4"),
    ],
)
async def test_change_is_reported_once_it_is_seen_twice(world, change, said):
    """One broker may be behind the others for a moment."""
    await world.survey.look()
    change(world.cluster)
    await world.survey.look()
    with pytest.raises(InputsChanged, match=said):
        await world.survey.look()


async def test_change_that_passes_is_none(world):
    """A broker that has just started knows of no topic."""
    await world.survey.look()
    for topic_id in ("", "in", "", "in"):
        world.cluster.topic_ids["in"] = topic_id
        await world.survey.look()


async def test_topic_that_the_broker_does_not_tell_of_is_not_gone(world, monkeypatch):
    """Whoever may not Describe it gets an answer without partitions."""
    await world.survey.look()
    denied = (29, "other", b"", False, [])
    monkeypatch.setattr(
        world.cluster, "_topic", lambda name, ask=world.cluster._topic: denied if name == "other" else ask(name)
    )
    for _ in range(3):
        await world.survey.look()


async def test_topic_of_another_id_than_claimed_is_a_change(world):
    """It was recreated between the claim and the first look."""
    world.ownership.topic_ids = {"in": "claimed"}
    await world.survey.look()
    with pytest.raises(InputsChanged, match="recreated"):
        await world.survey.look()


async def test_partitions_that_nobody_has_are_reported_and_end_the_worker(world):
    """The group is stable, the worker is in it, and has nothing to do although there is work."""
    world.ownership.partitions = {}
    world.assign(0, 2)
    for _ in range(3):
        await world.survey.look()
        assert (1, 3) == world.survey.unowned
    with pytest.raises(InputsChanged, match="none of them works on partitions 1, 3"):
        await world.survey.look()


@pytest.mark.parametrize("why", ["others have all", "aside", "rebalance", "not joined"])
async def test_worker_that_may_be_without_partitions_is_left_alone(world, why):
    """Standing by is no fault, nor is being drained."""
    world.ownership.partitions = {}
    world.assign(*range(4 if why == "others have all" else 0))
    world.aside = why == "aside"
    world.ownership.is_suspended = why == "rebalance"
    world.ownership.membership = None if why == "not joined" else object()
    for _ in range(6):
        await world.survey.look()
    assert () == world.survey.unowned


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cluster: cluster.leaders.update({1: -1}), "in-1 has no leader"),
        (lambda cluster: setattr(cluster, "in_sync", [1]), "at most half of its replicas are in sync"),
        (lambda cluster: (cluster.leaders.update({3: 2}), cluster.silent.add(2)), "broker 2 does not answer"),
        (lambda cluster: (setattr(cluster, "coordinator", 3), cluster.silent.add(3)), "broker 3 does not answer"),
    ],
)
async def test_broker_that_a_commit_needs_makes_the_cluster_incomplete(world, change, said):
    """Two of three are away: the one that is left answers for itself, and names the old leaders."""
    change(world.cluster)
    with pytest.raises(ClusterIncomplete, match=said):
        await world.survey.look()


async def test_replica_that_is_away_is_no_hindrance(world):
    """Two of three in sync take every write."""
    world.cluster.in_sync = [1, 2]
    await world.survey.look()


async def test_broker_that_is_away_is_the_callers_to_know(world):
    """As any other question to it."""
    world.cluster.silent.add(1)
    with pytest.raises(KafkaConnectionError):
        await world.survey.look()


async def test_input_that_is_added_later_is_surveyed_too(world):
    """A retry topic of an earlier version: if somebody deletes it, claims would wait for it for ever."""
    await world.survey.look()
    world.ownership.input_topics = ("in", "former")
    world.ownership.partitions = {}
    world.assign(*range(4))
    await world.survey.look()
    world.cluster.topic_ids.update({"former": ""})
    await world.survey.look()
    with pytest.raises(InputsChanged, match="topic former is gone"):
        await world.survey.look()


async def test_one_of_two_replicas_takes_every_write(world):
    """Two brokers, one away: with the default of min.insync.replicas work goes on, and its standstill would be one."""
    world.cluster.replicas = [1, 2]
    world.cluster.in_sync = [1]
    await world.survey.look()
