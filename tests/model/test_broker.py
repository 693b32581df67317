"""The Kafka of the model refuses and hides what a real one does: else the schedules would prove nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from simulation.coordinator import (
    CONCURRENT_TRANSACTIONS,
    INVALID_PRODUCER_EPOCH,
    INVALID_TXN_STATE,
    TransactionCoordinator,
)
from simulation.group import ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, UNSTABLE_OFFSET_COMMIT, Group
from simulation.log import OUT_OF_ORDER_SEQUENCE, Batch, Log
from simulation.loop import SimulatedLoop
from simulation.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

OUT = TopicPartition("out", 0)
IN = TopicPartition("in", 0)
WHO = "worker"
TIMEOUT_S = 5.0


class Cluster:
    """A log, a group and the coordinator of transactions, driven by hand."""

    def __init__(self) -> None:
        self.loop = SimulatedLoop()
        trace = Trace(self.loop)
        self.log = Log(*OUT)
        self.group = Group("group", trace, later=self.loop.call_later)
        self.coordinator = TransactionCoordinator(
            {OUT: self.log},
            {"group": self.group},
            random.Random(0),
            trace,
            slow_marker_rate=0.0,
            later=self.loop.call_later,
            on_marker=lambda _place: None,
        )

    def pass_time(self, seconds: float = 0.1) -> None:
        """Let time pass, in which markers are written."""
        self.loop.run_until_complete(_sleep(self.loop, seconds))

    def init(self) -> tuple[int, int]:
        """Return a producer id and epoch."""
        code, producer_id, epoch = self.coordinator.init(WHO, TIMEOUT_S)
        assert code == 0
        return producer_id, epoch

    def write(self, producer: tuple[int, int], sequence: int, value: bytes = b"value") -> tuple[int, int]:
        """Write a record with the transaction; returns an error code and an offset."""
        code = self.coordinator.add(WHO, *producer, partition=OUT)
        return (code, -1) if code else self.log.append(Batch(((None, value, (), 0),), *producer, sequence))

    def end(self, producer: tuple[int, int], *, is_commit: bool = True, version: int = 1) -> tuple[int, int, int]:
        """End the transaction; returns an error code, and the next producer id and epoch."""
        return self.coordinator.end(WHO, *producer, is_commit=is_commit, version=version)

    def values(self) -> list[bytes | None]:
        """Return what readers of committed records see."""
        return [one.value for one in self.log.read(0, 100)[0]]

    def join(self, member_id: str = "", client_id: str = "client") -> list[Any]:
        """Let a member join; returns where its answer will be."""
        answers: list[Any] = []
        self.group.join(member_id, client_id, 1.0, "metadata", answers.append)
        return answers


async def _sleep(loop: SimulatedLoop, seconds: float) -> None:
    passed = loop.create_future()
    loop.call_later(seconds, passed.set_result, None)
    await passed


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Make a cluster with nothing in it."""
    one = Cluster()
    yield one
    one.loop.close()


def test_records_of_an_open_transaction_are_hidden_and_hide_what_lies_behind(cluster: Cluster) -> None:
    """They show with the marker, not with the decision; the marker takes an offset."""
    producer = cluster.init()
    cluster.write(producer, 0)
    cluster.log.append(Batch(((None, b"of nobody", (), 0),)))
    assert ([], 0) == (cluster.values(), cluster.log.stable_end)
    cluster.end(producer)
    assert [] == cluster.values()
    cluster.pass_time()
    assert ([b"value", b"of nobody"], 3) == (cluster.values(), cluster.log.stable_end)


def test_records_of_an_aborted_transaction_never_show(cluster: Cluster) -> None:
    """Nor do they hold anything up."""
    producer = cluster.init()
    cluster.write(producer, 0)
    cluster.end(producer, is_commit=False)
    cluster.pass_time()
    assert ([], 2) == (cluster.values(), cluster.log.read(0, 100)[1])


def test_successor_aborts_the_open_transaction_and_fences_its_producer(cluster: Cluster) -> None:
    """Whatever the old epoch still asks for is refused."""
    old = cluster.init()
    cluster.write(old, 0)
    assert CONCURRENT_TRANSACTIONS == cluster.coordinator.init(WHO, TIMEOUT_S)[0]
    cluster.pass_time()
    new = cluster.init()
    assert new[1] > old[1]
    assert INVALID_PRODUCER_EPOCH == cluster.write(old, 1)[0]
    assert INVALID_PRODUCER_EPOCH == cluster.end(old)[0]
    assert INVALID_PRODUCER_EPOCH == cluster.log.append(Batch(((None, b"late", (), 0),), *old, 1))[0]
    assert [] == cluster.values()


def test_transaction_that_lasts_too_long_is_aborted_and_fenced(cluster: Cluster) -> None:
    """As the coordinator does with those of dead workers."""
    producer = cluster.init()
    cluster.write(producer, 0)
    cluster.pass_time(TIMEOUT_S + 0.1)
    assert INVALID_PRODUCER_EPOCH == cluster.end(producer)[0]
    assert [] == cluster.values()


def test_in_version_1_a_repeated_end_ends_the_next_transaction(cluster: Cluster) -> None:
    """The hole that the product's producer has to close: nothing tells the late one from a new one."""
    producer = cluster.init()
    cluster.write(producer, 0, b"first")
    assert 0 == cluster.end(producer)[0]
    cluster.pass_time()
    cluster.write(producer, 1, b"half of the second")
    assert 0 == cluster.end(producer)[0]
    cluster.pass_time()
    assert [b"first", b"half of the second"] == cluster.values()


def test_in_version_2_a_repeated_end_ends_nothing(cluster: Cluster) -> None:
    """Each transaction has an epoch of its own; a repetition before the next one gets the same answer."""
    producer = cluster.init()
    cluster.write(producer, 0, b"first")
    code, *successor = cluster.end(producer, version=2)
    assert (0, producer[1] + 1) == (code, successor[1])
    assert CONCURRENT_TRANSACTIONS == cluster.end(producer, version=2)[0]
    cluster.pass_time()
    assert (0, *successor) == cluster.end(producer, version=2)
    assert 0 == cluster.write((successor[0], successor[1]), 0, b"second")[0]
    assert INVALID_PRODUCER_EPOCH == cluster.end(producer, version=2)[0]
    cluster.pass_time()
    assert [b"first"] == cluster.values()


def test_nothing_joins_a_transaction_while_its_markers_are_written(cluster: Cluster) -> None:
    """Try again, says the coordinator."""
    producer = cluster.init()
    cluster.write(producer, 0)
    cluster.end(producer)
    assert CONCURRENT_TRANSACTIONS == cluster.write(producer, 1)[0]
    cluster.pass_time()
    assert 0 == cluster.write(producer, 1)[0]


def test_what_was_not_added_to_a_transaction_of_version_1_is_refused(cluster: Cluster) -> None:
    """A request that comes after the end of its transaction finds another state, or none."""
    producer = cluster.init()
    assert INVALID_TXN_STATE == cluster.coordinator.verify(WHO, *producer, partition=OUT)
    cluster.write(producer, 0)
    assert 0 == cluster.coordinator.verify(WHO, *producer, partition=OUT)
    assert INVALID_TXN_STATE == cluster.coordinator.verify(WHO, *producer, partition=None, group="group")


def test_repeated_batch_is_written_once_and_a_gap_is_refused(cluster: Cluster) -> None:
    """By its first sequence."""
    producer = cluster.init()
    assert (0, 0) == cluster.write(producer, 0)
    assert (0, 0) == cluster.write(producer, 0)
    assert OUT_OF_ORDER_SEQUENCE == cluster.write(producer, 2)[0]
    assert 1 == cluster.log.end


def test_offsets_of_a_worker_that_the_group_left_behind_are_refused(cluster: Cluster) -> None:
    """KIP-447; who names neither generation nor member id passes, as a client from before."""
    (joined,) = cluster.join()
    who = (joined.generation, joined.member_id)
    offsets = {IN: (7, "")}
    assert 0 == cluster.group.commit(1, who, offsets)
    assert ILLEGAL_GENERATION == cluster.group.commit(1, (joined.generation - 1, joined.member_id), offsets)
    assert UNKNOWN_MEMBER_ID == cluster.group.commit(1, (joined.generation, "somebody else"), offsets)
    assert 0 == cluster.group.commit(1, (-1, ""), offsets)


def test_offsets_of_an_open_transaction_are_unstable_until_it_is_decided(cluster: Cluster) -> None:
    """Who does not ask for stable ones gets the old ones."""
    cluster.group.commit_plainly({IN: (3, "old")})
    cluster.group.commit(1, (-1, ""), {IN: (7, "new")})
    assert (0, (3, "old")) == cluster.group.committed(IN, require_stable=False)
    assert UNSTABLE_OFFSET_COMMIT == cluster.group.committed(IN, require_stable=True)[0]
    cluster.group.decide(1, is_commit=True)
    assert (0, (7, "new")) == cluster.group.committed(IN, require_stable=True)


def test_rebalance_waits_for_all_members_but_not_for_ever(cluster: Cluster) -> None:
    """A member that is silent loses its place after its session."""
    (first,) = cluster.join()
    second = cluster.join()
    assert [] == second
    again = cluster.join(first.member_id)
    assert [2, 2] == [one.generation for one in (*again, *second)]
    assert first.member_id == second[0].leader
    assert 0 == cluster.group.beat(second[0].member_id, 2)
    cluster.pass_time(0.7)
    cluster.group.beat(second[0].member_id, 2)
    cluster.pass_time(0.7)
    assert [second[0].member_id] == list(cluster.group.members)
    assert UNKNOWN_MEMBER_ID == cluster.group.beat(first.member_id, 2)
