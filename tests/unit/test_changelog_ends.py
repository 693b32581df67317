"""How long a changelog must be: told by each commit, followed by each step, checked by each claim."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata
from fake_steps import FakeStore
from fakes import GROUP, FakeWorker, ProcessEnded

from app.errors import OffsetsLost, StepFailed
from app.kafka.fencing import CommittedOffset
from app.names import REDRIVEN_TABLE
from app.rules.offsets import MAX_ENDS_BYTES
from app.rules.owner_lives import Life, join_metadata, split_metadata
from app.streaming.group_positions import told_ends_of
from app.streaming.offset_notes import check_ends, decided
from app.streaming.step import Step
from app.streaming.told_ends import LOST, join_ends, split_ends

IN = TopicPartition("in", 0)
CHANGELOG = TopicPartition(f"{GROUP}-counts-changelog", 0)


@pytest.mark.parametrize("metadata", ["", "1:BQYF", join_metadata("1:BQYF", Life("gone", 1)), ";e=", ";e=x:"])
@pytest.mark.parametrize("ends", [{}, {"counts": 7}, {"a-b": LOST, "c": 0}])
def test_ends_stand_behind_all_other_metadata(metadata, ends):
    """What else a commit says stays as it is."""
    assert (metadata, ends) == split_ends(join_ends(metadata, ends))


def test_ends_of_a_processing_worker_have_their_room():
    """Beside its progress and its life."""
    assert len(join_ends("", {REDRIVEN_TABLE: LOST})) <= MAX_ENDS_BYTES
    life = Life("abcdefghijkl", 3)
    assert ("1:BQ", life) == split_metadata(split_ends(join_ends(join_metadata("1:BQ", life), {"redriven": 9}))[0])


def test_decision_forgets_the_ends():
    """The role goes on with what the changelog has."""
    assert "bits;t=now" == decided(join_ends("bits", {"counts": LOST}), "now")


def test_newest_commit_of_a_partition_tells():
    """A step commits some of a partition's inputs; the others still tell an earlier end."""
    committed = {
        IN: CommittedOffset(5, ";e=counts:7,more:9"),
        TopicPartition("other", 0): CommittedOffset(5, ";e=counts:8,more:2"),
        TopicPartition("in", 1): CommittedOffset(-1, ""),
    }
    assert {0: {"counts": 8, "more": 9}, 1: {}} == told_ends_of(committed)


def test_shorter_changelog_is_refused():
    """A table that is new, or gone in this version, has no say."""
    check_ends(3, {"counts": 7, "gone": 9}, {"counts": 7, "new": 0}, group_id="ebs-statistics")
    said = "partition 3, but the newest rows of ebs-statistics-counts-changelog are gone.*--to committed"
    with pytest.raises(OffsetsLost, match=said):
        check_ends(3, {"counts": 8}, {"counts": 7}, group_id="ebs-statistics")


@pytest.fixture
async def worker():
    """Return a worker with a table `counts`, whose changelog ends at 10."""
    worker = FakeWorker("in")
    await worker.start()
    store = FakeStore()
    store.changelog_end = 10
    worker.ownership.give(0, stores={"counts": store}, metadata="books")
    return worker


async def put(worker: FakeWorker, offset: int) -> None:
    """Change a row by a record that has this offset; its changelog's batch gets the one that is set."""
    async with Step(worker.transactions, [worker.batch(0, [b"1"], start=offset)]) as step:
        step.rows("counts", 0).put(b"row", b"1")


async def test_step_tells_the_end_that_it_made(worker):
    """Also a step that writes nothing there, and one that is answered without an offset."""
    worker.producer.changelog_offsets[CHANGELOG] = 12
    await put(worker, 0)
    assert {IN: OffsetAndMetadata(1, ";e=counts:13")} == worker.producer.offsets
    async with Step(worker.transactions, [worker.batch(0, [b"1"], start=1)]):
        pass
    worker.producer.changelog_offsets[CHANGELOG] = -1
    await put(worker, 2)
    assert {IN: OffsetAndMetadata(3, ";e=counts:13")} == worker.producer.offsets


async def test_row_below_the_known_end_ends_the_worker(worker):
    """And its last commit leaves the offsets as they were, and says so for good: the log has grown by this step."""
    worker.producer.changelog_offsets[CHANGELOG] = 9
    with pytest.raises(ProcessEnded):
        await put(worker, 0)
    (error,) = worker.fatal.errors
    assert isinstance(error, StepFailed)
    assert f"{CHANGELOG.topic}-0 from offset 9 on" in str(error)
    assert [] == worker.producer.records
    assert {IN: OffsetAndMetadata(0, f"books;e=counts:{LOST}")} == worker.producer.offsets
