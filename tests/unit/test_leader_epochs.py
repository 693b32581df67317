"""Leader epochs: where the log of one ends, and when it is asked."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from fake_coordinator import FakeCoordinator
from fakes import batch

from app.errors import StepFailed
from app.kafka.leader_epochs import NO_EPOCH, read_epoch_ends
from app.streaming.logs_in_use import LogsInUse

A, B = TopicPartition("in", 0), TopicPartition("in", 1)
NOT_LEADER, UNKNOWN_EPOCH, NOT_AUTHORIZED = 6, 75, 29


@pytest.fixture
def cluster() -> FakeCoordinator:
    """Return a cluster whose partitions are led by two brokers."""
    cluster = FakeCoordinator()
    cluster.leaders = {0: 1, 1: 2}
    cluster.epoch_ends = {(A, 3): 50, (B, 4): 60}
    return cluster


async def ends(cluster: FakeCoordinator, epochs: dict[TopicPartition, int]) -> Any:
    """Ask the cluster."""
    client: Any = cluster
    return await read_epoch_ends(client, epochs)


async def test_each_leader_is_asked_for_its_partitions(cluster):
    """What has no epoch is not asked; an epoch that its leader does not know has nothing left."""
    assert {A: 50, B: 60} == await ends(cluster, {A: 3, B: 4})
    assert {A: 50} == await ends(cluster, {A: 3, B: NO_EPOCH})
    assert {B: 0} == await ends(cluster, {B: 9})
    cluster.silent.add(1)
    assert {} == await ends(cluster, {A: NO_EPOCH})


@pytest.mark.parametrize("code", [NOT_LEADER, UNKNOWN_EPOCH])
async def test_answer_of_a_broker_that_is_not_the_leader_is_asked_for_again(cluster, code):
    """So are a broker that is away, and a partition without a leader."""
    cluster.epoch_refusal = code
    assert await ends(cluster, {A: 3}) is None
    cluster.epoch_refusal = 0
    cluster.leaders[1] = -1
    assert await ends(cluster, {B: 4}) is None
    cluster.leaders[1] = 2
    cluster.silent.add(2)
    assert await ends(cluster, {B: 4}) is None


async def test_refusal_is_an_error(cluster):
    """Of a user without the right to Describe the topic."""
    cluster.epoch_refusal = NOT_AUTHORIZED
    with pytest.raises(TopicAuthorizationFailedError):
        await ends(cluster, {A: 3})


class Reading:
    """Batches of partition 0 as they come, each under a leader epoch; `asked` are the epochs that were asked for."""

    def __init__(self, ends: dict[int, int], *, known: int = NO_EPOCH) -> None:
        self.asked: list[int] = []
        self.assignment = object()
        self._ends = ends
        self._known = {A: known}
        self._logs = LogsInUse(self._read)

    async def take(self, start: int, epoch: int) -> None:
        """Take a batch of one record."""
        one = batch("in", 0, [], assignment=self.assignment, start=start, end=start + 1)
        taken = [one._replace(first_epoch=epoch, leader_epoch=epoch)]
        assert taken is await self._logs.check(taken, self._known)

    async def _read(self, epochs: Any) -> dict[TopicPartition, int]:
        self.asked += epochs.values()
        return {tp: self._ends[epoch] for tp, epoch in epochs.items()}


async def test_log_is_asked_for_at_a_new_leader_only():
    """Of the same leader nothing can be lost without an offset that is out of range."""
    reading = Reading({3: 7, 5: 9}, known=3)
    for start, epoch in ((5, 3), (6, 3), (7, 5), (8, 5), (9, 6)):
        await reading.take(start, epoch)
    assert [3, 5] == reading.asked


async def test_log_that_was_lost_ends_the_worker():
    """It is longer than what was read, so the position lies within it."""
    reading = Reading({3: 0}, known=3)
    with pytest.raises(StepFailed, match="in-0 was read up to offset 7, and the broker has lost its records from 0 on"):
        await reading.take(7, 5)


async def test_new_assignment_begins_with_what_was_committed():
    """Reading begins anew there, below what was taken before."""
    reading = Reading({3: 9, 4: 9}, known=3)
    await reading.take(8, 4)
    reading.assignment = object()
    await reading.take(5, 4)
    assert [3, 3] == reading.asked


async def test_nothing_is_asked_where_no_epoch_is_known():
    """Nothing was committed, or by hand."""
    reading = Reading({})
    await reading.take(7, 5)
    assert [] == reading.asked
