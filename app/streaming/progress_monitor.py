"""Looks every few seconds whether a worker's work moves, asks the broker how far its inputs go, and keeps the answers.

The ends come by a client of its own: the consumer learns them with its fetches only, so a fetch loop that is frozen
would believe that there is nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

from aiokafka.errors import KafkaError

from app.errors import InputsChanged
from app.kafka.cluster import started
from app.kafka.refusals import lasting_refusals
from app.streaming.clock_steps import ClockSteps
from app.streaming.input_reader import Fetching
from app.streaming.standstill_rule import Sample, StandstillRule
from app.streaming.survey import ClusterIncomplete

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiokafka import TopicPartition

    from app.kafka.cluster import Cluster
    from app.streaming.ownership import Ownership
    from app.streaming.transactions import Transactions

log = logging.getLogger(__name__)

_LOOKS_PER_LIMIT = 12
_MAX_PERIOD_S = 5.0
_MAX_ANSWER_S = 5.0
_CLOCK_SET = (
    "the clock of this machine went %+.0f s: it was set, or the machine slept. Schedules and tasks that wait for their "
    "time, are due by the new time. `ebs waiting` shows what waits, `ebs waiting start` starts it"
)


class EndsReader(Protocol):
    """Says where partitions end; `KafkaEnds`, or a test's."""

    async def read(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where partitions end for readers of committed records; any error means: not known."""

    async def close(self) -> None:
        """Disconnect."""


class Surveyor(Protocol):
    """Looks whether the cluster is whole and still the same; a `Survey`, or a test's."""

    unowned: tuple[int, ...]

    async def look(self) -> None:
        """Look once; raises `InputsChanged`, `ClusterIncomplete` or what aiokafka raises."""

    async def close(self) -> None:
        """Disconnect."""


class KafkaEnds:
    """Asks the broker, by a connection that nothing else uses."""

    def __init__(self, cluster: Cluster, patience_s: float) -> None:
        self._cluster = cluster
        self._patience_s = patience_s
        self._consumer: Any = None

    async def read(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the last stable offsets."""
        async with asyncio.timeout(self._patience_s):
            if self._consumer is None:
                cluster = self._cluster.within(self._patience_s * 1_000)
                self._consumer = await started(cluster.new_reader("ebs-progress"))
            # Also without partitions the broker has to answer: by this a worker that has none tells that it is there.
            await self._consumer._client.force_metadata_update()  # noqa: SLF001  # aiokafka has no public ping
            ends: Mapping[TopicPartition, int] = await self._consumer.end_offsets(partitions) if partitions else {}
            return ends

    async def close(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()


class ProgressMonitor:
    """How a worker's work moves; `verdict` says what stands still, None if nothing does.

    `why_away` says why the broker's answers do not count, `survey` (None: nobody looks) whether all is as it was.
    `is_behind` is set by a role that keeps records in hand in a way of its own: what of them could move, "" if nothing.
    `refused` tells in words which partitions the broker cannot read: they do not stand still, as a new life of the
    worker would change nothing. `followed` are partitions that the worker reads to their ends beside its inputs, each
    with its next offset. `ends` is None while the broker does not answer.
    """

    def __init__(
        self,
        transactions: Transactions,
        ends: EndsReader,
        *,
        limit_s: float,
        is_stopping: Callable[[], bool],
        survey: Surveyor | None = None,
        refused: Callable[[], Mapping[TopicPartition, str]] = lasting_refusals,
        clock: Callable[[], float] = time.monotonic,
        clock_steps: ClockSteps | None = None,
    ) -> None:
        self.refused = refused
        self.period_s = look_period_s(limit_s)
        self.verdict: str | None = None
        self.why_away = ""
        self.survey = survey
        self.ends: Mapping[TopicPartition, int] | None = None
        self.is_behind: Callable[[], str] | None = None
        self.followed: dict[TopicPartition, Callable[[], int]] = {}
        self._transactions = transactions
        self._ends_reader = ends
        self._is_stopping = is_stopping
        self._clock = clock
        self._clock_steps = clock_steps or ClockSteps()
        self._patience_s = patience_s(limit_s)
        self._rule = StandstillRule(limit_s, max_gap_s=2 * (self.period_s + self._patience_s))

    async def run(self) -> None:
        """Look until cancelled; never raises anything else."""
        try:
            while True:
                try:
                    await self.look()
                except Exception:
                    # The worker's work does not depend on it, so it must not end with it.
                    log.exception("checking the worker's progress failed")
                await asyncio.sleep(self.period_s)
        finally:
            await self._ends_reader.close()
            if self.survey is not None:
                await self.survey.close()

    async def look(self) -> None:
        """Take a sample and judge."""
        clock_step_s = self._clock_steps.look()
        if clock_step_s:
            log.warning(_CLOCK_SET, clock_step_s)
        try:
            if self.survey is not None:
                async with asyncio.timeout(self._patience_s):
                    await self.survey.look()
            owned = self._transactions.ownership.owned_inputs()
            self.ends = await self._ends_reader.read([*owned, *self.followed])
            self.why_away = ""
        except InputsChanged as error:
            if not self._is_stopping():
                self._transactions.fatal(error)
        except (ClusterIncomplete, KafkaError, OSError, TimeoutError) as error:
            log.debug("cannot read the end offsets of the inputs: %r", error)
            self.ends = None
            self.why_away = str(error) if isinstance(error, ClusterIncomplete) else "the Kafka broker does not answer"
        self.verdict = self._rule.observe(self._sample())

    def lag(self, tp: TopicPartition) -> int | None:
        """Return how many offsets of a partition of ours are not worked yet, None if that is not known."""
        partition = self._transactions.ownership.partitions.get(tp.partition)
        if self.ends is None or partition is None or tp.topic not in partition.next_offsets:
            return None
        return max(0, self.ends.get(tp, 0) - self._worked_to(tp, partition.next_offsets[tp.topic]))

    def commit_gap(self, tp: TopicPartition) -> int:
        """Return how many offsets are taken and not committed yet: in work, or finished above one that is in work."""
        partition = self._transactions.ownership.partitions.get(tp.partition)
        committed = partition.next_offsets.get(tp.topic) if partition is not None else None
        return 0 if committed is None else max(0, self._delivered().get(tp, 0) - committed)

    def why_excused(self) -> str:
        """Return why nothing of this worker needs to move now, "" if it does."""
        ownership = self._transactions.ownership
        if self._is_stopping():
            return "the worker stops"
        if ownership.membership is None:
            return "the worker has not joined its group yet"
        if ownership.is_suspended:
            return "a rebalance goes on"
        return "partitions are being restored" if ownership.restoring else ""

    def _sample(self) -> Sample:
        fetching = self._fetching()
        positions = {**fetching.positions, **{tp: position() for tp, position in self.followed.items()}}
        refused = self.refused()
        return Sample(
            at_s=self._clock(),
            ends=self.ends,
            positions={tp: one for tp, one in positions.items() if tp not in refused},
            committed_count=self._transactions.committed_count,
            backed_up=fetching.backed_up,
            in_hand=self._closed() or (self._undelivered_work() if self.is_behind is None else self.is_behind()),
            step_open=self._transactions.step_open,
            excuse=self.why_excused(),
        )

    def _closed(self) -> str:
        """Return the partitions of ours that are closed although nothing restores them; "" if there are none."""
        partitions = self._transactions.ownership.partitions.values()
        closed = ", ".join(str(partition.number) for partition in partitions if not partition.active)
        return closed and f"partitions {closed} are closed and nothing restores them"

    def _undelivered_work(self) -> str:
        """Return what is due: records were given to the agent and are not committed."""
        inputs = self._transactions.ownership.owned_inputs()
        return "records are in hand" if any(self.commit_gap(tp) > 0 for tp in inputs) else ""

    def _worked_to(self, tp: TopicPartition, committed: int) -> int:
        if self._delivered().get(tp, 0) > committed:
            return committed
        # Nothing is in hand: what the position has passed beyond are markers, which are nobody's work.
        position = self._fetching().positions.get(tp, committed)
        return max(position, committed)

    def _delivered(self) -> Mapping[TopicPartition, int]:
        reader = self._transactions.ownership.reader
        return {} if reader is None else reader.delivered

    def _fetching(self) -> Fetching:
        reader = self._transactions.ownership.reader
        return Fetching({}, backed_up=False) if reader is None else reader.fetching()


def look_period_s(limit_s: float) -> float:
    """Return how long to wait between two looks."""
    return min(_MAX_PERIOD_S, limit_s / _LOOKS_PER_LIMIT)


def patience_s(limit_s: float) -> float:
    """Return how long an answer of the broker is waited for."""
    return min(_MAX_ANSWER_S, limit_s / 4)


def owned_ratio(ownership: Ownership) -> float:
    """Return how much of the restoring that goes on is done, 0 to 1; 1 if none does."""
    total = sum(one.total for one in ownership.restoring)
    return 1.0 if not ownership.restoring else sum(one.done for one in ownership.restoring) / max(1, total)
