"""A worker's progress: sampled with the ends that the broker tells, lag and commit gap from the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from fakes import Fatal, ProcessEnded

from app.errors import InputsChanged
from app.streaming.input_reader import Fetching
from app.streaming.partition import Partition
from app.streaming.progress_monitor import ProgressMonitor, owned_ratio
from app.streaming.restore import RestoreProgress
from app.streaming.survey import ClusterIncomplete

IN = TopicPartition("in", 0)
LIMIT_S = 60.0


class Worker:
    """A worker that owns partition 0 of `in`, committed up to 4, with everything to be set by a test."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.ends: dict[TopicPartition, int] | Exception = {IN: 10}
        self.positions = {IN: 4}
        self.delivered: dict[TopicPartition, int] = {}
        self.backed_up = False
        self.stops = False
        partition = Partition(0)
        partition.next_offsets["in"] = 4
        partition.active = True
        self.ownership: Any = SimpleNamespace(
            reader=self,
            partitions={0: partition},
            owned_inputs=lambda: [IN],
            membership=object(),
            is_suspended=False,
            restoring=[],
        )
        self.transactions: Any = SimpleNamespace(ownership=self.ownership, committed_count=0, step_open=False)
        self.fatal = Fatal()
        self.transactions.fatal = self.fatal
        self.surveyed: Exception | None = None
        self.unowned: tuple[int, ...] = ()
        self.refused: dict[TopicPartition, str] = {}
        self.progress = ProgressMonitor(
            self.transactions,
            self,
            limit_s=LIMIT_S,
            is_stopping=lambda: self.stops,
            survey=self,
            refused=lambda: self.refused,
            clock=lambda: self.now_s,
        )

    def fetching(self) -> Fetching:
        """Return what the consumer does."""
        return Fetching(self.positions, self.backed_up)

    async def read(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the ends."""
        assert partitions == [IN, *self.progress.followed]
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends

    async def look(self) -> None:
        """Survey the cluster."""
        if self.surveyed is not None:
            raise self.surveyed

    async def close(self) -> None:
        """Disconnect."""

    async def look_for(self, seconds: float) -> str | None:
        """Look in the sampler's rhythm; returns the verdict in the end."""
        for _ in range(round(seconds / self.progress.period_s)):
            self.now_s += self.progress.period_s
            await self.progress.look()
        return self.progress.verdict


async def test_lag_that_nobody_takes_is_a_standstill():
    """The ends move on while the position stays."""
    assert "in-0 stood still" in (await Worker().look_for(100) or "")


async def test_partition_that_the_broker_cannot_read_is_no_standstill():
    """A new life would change nothing, and the other partitions would pay for it."""
    worker = Worker()
    worker.refused = {IN: "the broker cannot read in-0"}
    assert await worker.look_for(200) is None
    worker.refused = {}
    assert "in-0 stood still" in (await worker.look_for(100) or "")


async def test_delivered_records_that_are_not_committed_are_a_standstill():
    """Everything is read and given to the agent, which does nothing."""
    worker = Worker()
    worker.positions, worker.delivered = {IN: 10}, {IN: 10}
    assert "records are in hand" in (await worker.look_for(100) or "")


async def test_role_with_books_of_its_own_says_whether_something_could_move():
    """A processing worker may have records for hours."""
    worker = Worker()
    worker.positions, worker.delivered = {IN: 10}, {IN: 10}
    worker.progress.is_behind = lambda: ""
    assert await worker.look_for(100) is None
    worker.progress.is_behind = lambda: "records are in hand"
    assert await worker.look_for(100) is not None


@pytest.mark.parametrize("error", [KafkaConnectionError(), TimeoutError(), OSError()])
async def test_broker_that_is_away_is_no_standstill(error):
    """Nobody knows how far the inputs go."""
    worker = Worker()
    worker.ends = error
    assert await worker.look_for(100) is None
    assert (None, None) == (worker.progress.ends, worker.progress.lag(IN))


async def test_step_that_the_rest_of_the_cluster_cannot_commit_is_no_standstill():
    """Two of three brokers are away: the one that is left still says where its partitions end."""
    worker = Worker()
    worker.transactions.step_open = True
    worker.surveyed = ClusterIncomplete("broker 2 does not answer")
    assert await worker.look_for(200) is None
    assert (None, "broker 2 does not answer") == (worker.progress.ends, worker.progress.why_away)
    worker.surveyed = None
    assert "a step is open" in (await worker.look_for(100) or "")
    assert "" == worker.progress.why_away


async def test_inputs_that_changed_end_the_process_unless_it_stops_anyway():
    """With the reason; nobody waits for the standstill."""
    worker = Worker()
    worker.surveyed = InputsChanged("topic in was deleted and recreated")
    worker.stops = True
    await worker.progress.look()
    worker.stops = False
    with pytest.raises(ProcessEnded):
        await worker.progress.look()
    assert [worker.surveyed] == worker.fatal.errors


@pytest.mark.parametrize(
    ("change", "excuse"),
    [
        (lambda worker: setattr(worker.ownership, "membership", None), "the worker has not joined its group yet"),
        (lambda worker: setattr(worker.ownership, "is_suspended", True), "a rebalance goes on"),
        (lambda worker: worker.ownership.restoring.append(RestoreProgress(1)), "partitions are being restored"),
        (lambda worker: setattr(worker, "stops", True), "the worker stops"),
    ],
)
async def test_excuses(change, excuse):
    """While one holds nothing needs to move."""
    worker = Worker()
    change(worker)
    assert (None, excuse) == (await worker.look_for(100), worker.progress.why_excused())


async def test_sampler_survives_what_it_meets():
    """An error in the sampling is logged; the next look is taken."""
    worker = Worker()
    worker.ends = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await worker.progress.look()
    worker.ends = {IN: 10}
    await worker.progress.look()
    assert worker.progress.ends == {IN: 10}


@pytest.mark.parametrize(
    ("position", "delivered", "lag", "gap"),
    [
        pytest.param(4, 0, 6, 0, id="nothing taken"),
        pytest.param(10, 10, 6, 6, id="all taken, nothing committed"),
        pytest.param(8, 7, 6, 3, id="some taken"),
        pytest.param(10, 4, 0, 0, id="what lies behind the committed offset are markers"),
        pytest.param(-1, 0, 6, 0, id="no position yet"),
    ],
)
async def test_lag_and_commit_gap(position, delivered, lag, gap):
    """Lag counts what is not committed, but no transaction markers; the gap what is taken of it."""
    worker = Worker()
    worker.positions, worker.delivered = {IN: position}, {IN: delivered}
    await worker.progress.look()
    assert (lag, gap) == (worker.progress.lag(IN), worker.progress.commit_gap(IN))


async def test_partitions_of_others_have_neither():
    """What was lost in a rebalance is nobody's series here."""
    progress = Worker().progress
    assert (None, 0) == (progress.lag(TopicPartition("in", 1)), progress.commit_gap(TopicPartition("in", 1)))


def test_restore_ratio_is_over_all_restores():
    """By changelog offsets; 1 if none goes on, 0 if none has begun to read."""
    ownership: Any = SimpleNamespace(restoring=[])
    assert 1 == owned_ratio(ownership)
    ownership.restoring = [RestoreProgress(1), RestoreProgress(2)]
    assert 0 == owned_ratio(ownership)
    for progress, done, total in zip(ownership.restoring, (10, 20), (40, 80), strict=True):
        progress.done, progress.total = done, total
    assert 0.25 == owned_ratio(ownership)


async def test_partition_that_nothing_restores_is_a_standstill():
    """It is ours and closed: nobody else works it, and `restoring` would name who opens it."""
    worker = Worker()
    worker.positions = {}
    worker.ownership.partitions[0].active = False
    assert "partitions 0 are closed and nothing restores them" in (await worker.look_for(100) or "")
    worker.ownership.restoring.append(RestoreProgress(1))
    assert await worker.look_for(100) is None


async def test_partition_beside_the_inputs_must_make_progress():
    """As `control`, whose reader may be dead while everything else goes on."""
    worker = Worker()
    control = TopicPartition("control", 0)
    worker.positions, worker.ends = {IN: 10}, {IN: 10, control: 7}
    worker.progress.followed[control] = lambda: 7
    assert await worker.look_for(100) is None
    worker.progress.followed[control] = lambda: 3
    assert "control-0 stood still" in (await worker.look_for(100) or "")
