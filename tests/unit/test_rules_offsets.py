"""Progress of a partition: exactly what is unfinished runs again, and what has begun does not begin anew."""

from __future__ import annotations

import base64
import itertools
import random

import pytest
from histories import SEEDS
from hypothesis import given, settings
from hypothesis import strategies as st

from app.rules.offsets import MAX_ENDS_BYTES, MAX_METADATA_BYTES, PartitionProgress
from app.rules.owner_lives import MAX_LIFE_BYTES

OPERATIONS = ["take", "start", "start", "start", "finish", "finish", "commit", "commit", "crash"]
FIRST = 1_000


class Model:
    """One partition, worked over several lives: what was committed is all that survives."""

    def __init__(self, records: list[int]) -> None:
        self.records = records
        self.end = records[-1] + 2
        self.committed = FIRST, ""
        self.committed_finished: set[int] = set()
        self.committed_started: set[int] = set()
        self.begin()

    def begin(self) -> None:
        """Start a life from what was committed."""
        self.finished, self.started = set(self.committed_finished), set(self.committed_started)
        self.progress = PartitionProgress(*self.committed)
        self.to_take = [offset for offset in self.records if offset >= self.committed[0]]
        self.open: list[int] = []
        self.running: list[int] = []

    def take(self, count: int) -> None:
        """Take the next records, as a batch brings them, and the markers behind the last one."""
        for _ in range(min(1 + count % 7, len(self.to_take))):
            offset = self.to_take.pop(0)
            wanted = offset not in self.finished
            assert wanted is self.progress.take(offset), f"{offset} is to be worked: {wanted}"
            if wanted:
                self.open.append(offset)
        self.progress.take_to(self.to_take[0] if self.to_take else self.end)

    def start(self, choice: int) -> None:
        """Start any open record."""
        if self.open:
            offset = self.open.pop(choice % len(self.open))
            assert (offset not in self.started) is self.progress.start(offset)
            self.started.add(offset)
            self.running.append(offset)

    def finish(self, choice: int) -> None:
        """Finish any running record."""
        if self.running:
            offset = self.running.pop(choice % len(self.running))
            self.progress.finish(offset)
            self.finished.add(offset)

    def commit(self, _choice: int) -> None:
        """Commit what the progress says."""
        metadata = self.progress.encode()
        assert metadata is not None
        unfinished = [offset for offset in self.records if offset not in self.finished]
        taken = [offset for offset in unfinished if offset < self.progress.taken_to]
        assert (taken[0] if taken else self.progress.taken_to) == self.progress.watermark
        assert len(taken) == self.progress.open_count
        self.committed = self.progress.watermark, metadata
        self.committed_finished, self.committed_started = set(self.finished), set(self.started)

    def crash(self, _choice: int) -> None:
        """Lose what was not committed."""
        self.begin()


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 60), st.integers(0, 150), SEEDS)
def test_exactly_the_unfinished_run_again_whatever_happens(record_count, operation_count, seed):
    """Over any number of lives: no finished record is worked again, no other is skipped, none starts twice."""
    draw = random.Random(seed)
    model = Model(list(itertools.accumulate(draw.choices([1, 1, 1, 2, 4], k=record_count), initial=FIRST)))
    for name in draw.choices(OPERATIONS, k=operation_count):
        getattr(model, name)(draw.randrange(1_000))
    model.commit(0)
    model.crash(0)
    while model.to_take:
        model.take(6)
    assert model.open == [offset for offset in model.records if offset not in model.committed_finished]
    while model.open:
        model.start(0)
    while model.running:
        model.finish(0)
    assert (model.end, "") == (model.progress.watermark, model.progress.encode())


def test_what_an_earlier_owner_noted_of_later_records_is_kept():
    """A life that dies before it has taken everything again must not make its successor repeat the rest."""
    first = PartitionProgress(0)
    for offset in range(6):
        first.take(offset)
        first.start(offset)
    for offset in (2, 3, 5):
        first.finish(offset)
    second = PartitionProgress(first.watermark, first.encode() or "")
    second.take(0)
    second.finish(0)
    third = PartitionProgress(second.watermark, second.encode() or "")
    assert [True, False, False, True, False] == [third.take(offset) for offset in (1, 2, 3, 4, 5)]
    assert [False, False] == [third.start(offset) for offset in (1, 4)]


def test_nothing_open_needs_no_metadata():
    """The watermark alone says it when all that was taken is done."""
    progress = PartitionProgress(5)
    assert (5, "") == (progress.watermark, progress.encode())
    progress.take(5)
    progress.start(5)
    progress.finish(5)
    assert (6, "", 0) == (progress.watermark, progress.encode(), progress.open_count)


def test_records_that_only_wait_need_no_metadata():
    """However many wait, with markers between them: untouched is what a reader assumes anyway."""
    progress = PartitionProgress(0)
    for offset in range(0, 20_000, 2):
        progress.take(offset)
        progress.take_to(offset + 2)
    assert (0, "") == (progress.watermark, progress.encode())
    progress.start(0)
    progress.start(2)
    assert 10 > len(progress.encode() or "")


def test_markers_between_records_cost_nothing():
    """Gaps take the state of the record behind them, so each step's marker does not become a run of its own."""
    with_markers, without = PartitionProgress(0), PartitionProgress(0)
    for number in range(50):
        for progress, offset in ((with_markers, 2 * number), (without, number)):
            progress.take(offset)
            progress.start(offset)
    with_markers.take_to(100)
    for progress, step in ((with_markers, 2), (without, 1)):
        progress.finish(10 * step)
        progress.finish(11 * step)
    assert len(without.encode() or "") == len(with_markers.encode() or "")


@pytest.mark.parametrize("length", [1, 31, 32, 33, 63, 64, 4_095, 4_096, 4_097, 20_000])
@pytest.mark.parametrize("state", ["waiting", "finished"])
def test_runs_of_any_length_are_read_back(length, state):
    """Lengths around each size of a varint, of what waits and of what is finished."""
    progress = PartitionProgress(0)
    for offset in range(length + 3):
        progress.take(offset)
    progress.start(0)
    progress.start(length + 2)
    if state == "finished":
        for offset in range(1, length + 1):
            progress.finish(offset)
    after = PartitionProgress(0, progress.encode() or "")
    taken = [offset for offset in range(length + 3) if after.take(offset)]
    waiting = range(1, length + 1) if state == "waiting" else ()
    assert [0, *waiting, length + 1, length + 2] == taken
    assert [False, True, False] == [after.start(offset) for offset in (0, length + 1, length + 2)]


def test_watermark_passes_markers():
    """Offsets without a record are never waited for."""
    progress = PartitionProgress(0)
    progress.take_to(7)
    assert 7 == progress.watermark
    progress.take(9)
    assert 9 == progress.watermark
    progress.start(9)
    progress.finish(9)
    progress.take_to(12)
    assert 12 == progress.watermark
    progress.take_to(3)
    assert 12 == progress.watermark


def test_metadata_that_would_not_fit_is_none_until_it_fits_again():
    """Kafka takes 4,096 bytes: more holes than that cannot be committed, fewer can."""
    progress = PartitionProgress(0)
    for offset in range(10_000):
        progress.take(offset)
        progress.start(offset)
    finish_next = iter(range(1, 10_000, 2))
    last = ""
    while (metadata := progress.encode()) is not None:
        last = metadata
        for offset in itertools.islice(finish_next, 50 if len(last) < MAX_METADATA_BYTES - 300 else 1):
            progress.finish(offset)
    assert MAX_METADATA_BYTES - 4 < len(last) + MAX_LIFE_BYTES + MAX_ENDS_BYTES <= MAX_METADATA_BYTES
    for offset in range(0, 5_000, 2):
        progress.finish(offset)
    assert progress.encode() is not None


def test_starting_what_an_earlier_life_knew_makes_nothing_longer():
    """So a crowded partition can always go on with those: below `known_to`, the metadata only shrinks."""
    first = PartitionProgress(0)
    draw = random.Random(1)
    for offset in range(2_000):
        first.take(offset)
        first.start(offset)
        if draw.random() < 0.5:
            first.finish(offset)
    metadata = first.encode()
    second = PartitionProgress(first.watermark, metadata or "")
    opened = [offset for offset in range(first.watermark, 2_000) if second.take(offset)]
    assert opened[-1] < second.known_to <= 2_000
    size = len(metadata or "")
    for offset in opened:
        second.start(offset)
        assert size >= len(second.encode() or "")
        second.finish(offset)
        assert size >= len(second.encode() or "")


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "anything",
        "2:" + base64.b64encode(b"\x06\x06").decode(),
        "1:",
        "1:not base64!",
        "1:ü",
        "1:" + base64.b64encode(b"\x80\x80").decode(),
        "1:" + base64.b64encode(b"\x13\x00\xff\xff\xff\xff\x07").decode(),
    ],
)
def test_metadata_of_another_tool_is_ignored(metadata):
    """A tool that resets offsets writes its own text, or none: then every record is worked."""
    progress = PartitionProgress(100, metadata)
    assert progress.take(100)
    assert progress.start(100)
    progress.finish(100)
    assert 101 == progress.watermark


@given(st.text(max_size=20), st.binary(max_size=20))
@settings(max_examples=60)
def test_garbage_never_raises(text, packed):
    """Whatever stands in the metadata, a partition can be worked."""
    for metadata in (text, "1:" + text, "1:" + base64.b64encode(packed).decode()):
        progress = PartitionProgress(0, metadata)
        for offset in range(5):
            if progress.take(offset):
                progress.start(offset)
                progress.finish(offset)
        assert 5 == progress.watermark
        assert isinstance(progress.encode(), str)


def test_memory_is_bounded_by_what_is_open():
    """One task may hold the watermark while a hundred thousand finish above it."""
    progress = PartitionProgress(0)
    progress.take(0)
    for offset in range(1, 100_000):
        progress.take(offset)
        progress.start(offset)
        progress.finish(offset)
    assert (0, 1) == (progress.watermark, progress.open_count)
    assert 2_000 > len(progress._heads)
    progress.finish(0)
    assert 100_000 == progress.watermark
