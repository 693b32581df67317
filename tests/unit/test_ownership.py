"""What a worker owns: claimed anew after any doubt, kept without a break, open only when it is ready."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError
from fake_coordinator import FakeCoordinator
from fakes import Fatal, settle, until

from app.kafka.fencing import Membership
from app.streaming.ownership import Ownership

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.streaming.partition import Partition


GROUP_AUTHORIZATION_FAILED = 30


class FakeReader:
    """The consumer: notes where it was sent and what is open."""

    def __init__(self) -> None:
        self.earliest: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self.seeks: dict[TopicPartition, int] = {}
        self.opened: frozenset[TopicPartition] = frozenset()

    async def earliest_offsets_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offsets."""
        return {tp: self.earliest.get(tp, 0) for tp in partitions}

    async def end_offsets_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where the logs end."""
        return {tp: self.ends.get(tp, 100) for tp in partitions}

    async def seek_to(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note where to go on."""
        self.seeks.update(offsets)

    def open_partitions(self, partitions: frozenset[TopicPartition]) -> None:
        """Note what is open."""
        self.opened = partitions


class Books:
    """An observer that notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def partition_ready(self, partition: Partition) -> None:
        """Note it."""
        self.heard.append(f"ready {partition.number}")

    def partition_lost(self, partition: Partition) -> None:
        """Note it."""
        self.heard.append(f"lost {partition.number}")


class Bench:
    """An ownership without tables, and everything around it in memory."""

    def __init__(self) -> None:
        self.coordinator, self.reader, self.books, self.fatal = FakeCoordinator(), FakeReader(), Books(), Fatal()
        unused: Any = None
        self.ownership = Ownership(
            group_id="group",
            input_topics=["in", "more"],
            tables=lambda: (),
            stores=unused,
            cluster=unused,
            fatal=self.fatal,
        )
        self.ownership.reader = self.reader
        self.ownership.observers.append(self.books)

    def claim(self, *numbers: int, generation: int, member: str = "me") -> None:
        """Be assigned partitions."""
        client: Any = self.coordinator
        self.ownership.claim(numbers, Membership(generation, member), object(), client)

    async def own(self, *numbers: int, generation: int, member: str = "me") -> None:
        """Be assigned partitions and wait until they are open."""
        self.claim(*numbers, generation=generation, member=member)
        await until(lambda: self.open_numbers() == set(numbers))

    def open_numbers(self) -> set[int]:
        """Return which partitions are open; all of their topics are, or none."""
        numbers = {tp.partition for tp in self.reader.opened}
        assert {TopicPartition(topic, number) for topic in ("in", "more") for number in numbers} == self.reader.opened
        return numbers


@pytest.fixture
async def bench() -> Bench:
    """Return an ownership of nothing."""
    return Bench()


IN, MORE = TopicPartition("in", 0), TopicPartition("more", 0)


async def test_claimed_partition_opens_where_it_was_committed(bench):
    """Stable offsets, then a seek, then the observers, then its records flow."""
    bench.coordinator.committed = {IN: (7, "books"), MORE: (9, "")}
    bench.reader.ends = {IN: 12, MORE: 9}
    bench.claim(0, generation=1)
    assert not bench.ownership.partitions[0].active
    assert set() == bench.open_numbers()
    await until(lambda: bench.open_numbers() == {0})
    partition = bench.ownership.partitions[0]
    assert ({"in": 7, "more": 9}, {"in": "books", "more": ""}) == (partition.next_offsets, partition.metadata)
    assert ({IN: 7, MORE: 9}, {"in": 12, "more": 9}) == (bench.reader.seeks, partition.ends)
    assert ["ready 0"] == bench.books.heard


async def test_partition_that_nobody_committed_begins_at_its_first_record(bench):
    """Which need not be 0."""
    bench.reader.earliest = {IN: 4}
    await bench.own(0, generation=1)
    assert {"in": 4, "more": 0} == bench.ownership.partitions[0].next_offsets


async def test_what_was_deleted_unprocessed_is_reported_and_skipped(bench, caplog):
    """It begins at the first record there is; metadata that counts from a deleted offset would skip wrong records."""
    bench.coordinator.committed = {IN: (3, "1:counts from 3"), MORE: (9, "kept")}
    bench.reader.earliest = {IN: 10, MORE: 9}
    await bench.own(0, generation=1)
    partition = bench.ownership.partitions[0]
    assert ({"in": 10, "more": 9}, {"in": "", "more": "kept"}) == (partition.next_offsets, partition.metadata)
    assert "records 3 to 9 of" in caplog.text


async def test_topics_of_other_ids_than_before_are_not_claimed(bench):
    """Whoever surveys the topics ends the process; until then nothing of the new ones is worked."""
    await bench.own(0, generation=1)
    assert {"in": b"in".hex(), "more": b"more".hex()} == bench.ownership.topic_ids
    assert "c" == bench.ownership.cluster_id
    bench.coordinator.topic_ids["in"] = "recreated"
    bench.claim(0, 1, generation=2)
    await settle()
    assert {0} == bench.open_numbers()
    bench.claim(0, generation=3)
    await asyncio.gather(*bench.ownership._restores)


async def test_end_that_a_new_leader_does_not_know_yet_is_waited_for(bench):
    """Below a committed offset for a moment: that is no loss."""
    bench.coordinator.committed = {IN: (7, ""), MORE: (0, "")}
    bench.reader.ends = {IN: 5}
    bench.claim(0, generation=1)
    await until(lambda: bench.coordinator.asked)
    await settle()
    bench.reader.ends = {IN: 7}
    await until(lambda: bench.open_numbers() == {0})
    assert 7 == bench.ownership.partitions[0].next_offsets["in"]


@pytest.mark.parametrize(("kept_to", "is_lost"), [(6, True), (7, False)])
async def test_log_that_was_lost_and_grew_again_is_refused(bench, kept_to, is_lost):
    """By where the log of the commit's leader epoch ends; the next commit is under that epoch at least."""
    bench.coordinator.committed = {IN: (7, ""), MORE: (5, "")}
    bench.coordinator.epochs = {IN: 3}
    bench.coordinator.epoch_ends = {(IN, 3): kept_to}
    bench.claim(0, generation=1)
    await until(lambda: bench.fatal.errors or bench.open_numbers() == {0})
    assert is_lost == ("has lost its records from 6 on" in str(bench.fatal.errors))
    await asyncio.gather(*bench.ownership._restores, return_exceptions=True)
    assert is_lost or {IN: 3, MORE: -1} == bench.ownership.leader_epochs


async def test_open_transaction_of_another_worker_is_waited_for(bench):
    """An offset that may still change is no place to begin."""
    bench.coordinator.unstable = {MORE}
    bench.claim(0, generation=1)
    await until(lambda: bench.coordinator.asked)
    await settle()
    assert set() == bench.open_numbers()
    bench.coordinator.unstable.clear()
    await asyncio.gather(*bench.ownership._restores)
    assert {0} == bench.open_numbers()
    assert bench.coordinator.asked >= 2


async def test_partition_that_stays_continues_at_once(bench):
    """The next generation of a group without a break: nothing of it is read again, only the new one is."""
    await bench.own(0, generation=1)
    kept = bench.ownership.partitions[0]
    kept.next_offsets["in"] = 50
    bench.ownership.suspend()
    assert set() == bench.open_numbers()
    bench.claim(0, 1, generation=2)
    assert ({0}, 50) == (bench.open_numbers(), kept.next_offsets["in"])
    await until(lambda: bench.open_numbers() == {0, 1})
    assert kept is bench.ownership.partitions[0]
    assert ["ready 0", "ready 1"] == bench.books.heard


@pytest.mark.parametrize(("generation", "member"), [(3, "me"), (1, "me"), (2, "another")])
async def test_worker_that_was_away_claims_everything_again(bench, generation, member):
    """Others may have worked its partitions meanwhile, even those that it seems to have kept."""
    await bench.own(0, generation=1)
    old = bench.ownership.partitions[0]
    bench.coordinator.committed = {IN: (99, "")}
    await bench.own(0, generation=generation, member=member)
    assert ["ready 0", "lost 0", "ready 0"] == bench.books.heard
    assert (False, 99) == (old.active, bench.ownership.partitions[0].next_offsets["in"])


async def test_lost_partition_is_let_go_of(bench):
    """Observers hear of it before anything else can own it."""
    await bench.own(0, 1, generation=1)
    lost = bench.ownership.partitions[1]
    bench.claim(0, generation=2)
    assert (["ready 0", "ready 1", "lost 1"], {0}, False) == (bench.books.heard, bench.open_numbers(), lost.active)


@pytest.mark.parametrize("stays_unstable", [True, False])
async def test_partition_lost_before_it_was_ready_never_opens(bench, stays_unstable):
    """Nobody hears of it, and nobody waits for it any longer."""
    bench.coordinator.unstable = {IN}
    bench.claim(0, generation=1)
    await until(lambda: bench.coordinator.asked)
    bench.claim(generation=2)
    if not stays_unstable:
        bench.coordinator.unstable.clear()
    await asyncio.gather(*bench.ownership._restores)
    assert ([], set(), {}) == (bench.books.heard, bench.open_numbers(), bench.ownership.partitions)


async def test_held_partition_is_closed_until_it_is_let_go(bench):
    """Back-pressure holds single topics of a partition; what was held before is let go."""
    await bench.own(0, 1, generation=1)
    bench.ownership.hold(frozenset({IN}))
    assert {MORE, TopicPartition("in", 1), TopicPartition("more", 1)} == bench.reader.opened
    bench.ownership.hold(frozenset())
    assert {0, 1} == bench.open_numbers()


async def test_partition_that_cannot_be_claimed_ends_the_process(bench):
    """An owner that cannot read where to begin must not stay in the group."""
    bench.coordinator.error = GroupAuthorizationFailedError("group")
    bench.claim(0, generation=1)
    await until(lambda: bench.fatal.errors)
    assert [bench.coordinator.error] == bench.fatal.errors
    (restore,) = bench.ownership._restores
    assert "ProcessEnded" == type((await asyncio.gather(restore, return_exceptions=True))[0]).__name__


async def test_stop_releases_everything(bench):
    """Restores under way too."""
    await bench.own(0, generation=1)
    bench.coordinator.unstable = {TopicPartition("in", 1)}
    bench.claim(0, 1, generation=2)
    await bench.ownership.stop()
    assert ({}, set(), ["ready 0", "lost 0"]) == (bench.ownership.partitions, bench.open_numbers(), bench.books.heard)
    assert set() == bench.ownership._restores


async def test_claim_learns_who_is_in_the_group(bench):
    """By that its user tells an owner that died from one that lives."""
    bench.coordinator.member_client_ids = {"group-me"}
    await bench.own(0, generation=1)
    assert frozenset({"member"}) == bench.ownership.partitions[0].members


async def test_claim_continues_without_knowing_who_is_in_the_group(bench):
    """A broker may not let us ask."""
    bench.coordinator.describe_refusal = GROUP_AUTHORIZATION_FAILED
    await bench.own(0, generation=1)
    assert bench.ownership.partitions[0].members is None
