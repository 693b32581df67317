"""All lanes of a worker, and the committer. A lane is one input partition (`lane`).

`WorkerLanes` has all lanes of a worker and the one committer. The engine takes their records in batches, finishes them
in any order, and sends events through the lane; every `commit_interval_s` at most one step commits, of every lane that
changed, the outgoing records, table rows, the watermark, and in the commit's metadata what is started or finished above
it (`app.rules.offsets`). So after a crash exactly what is unfinished is worked again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agents.dead_letters import dead_letter
from agents.engine.delayed_ends import GATHER_S, DelayedEnds
from agents.engine.fetch_holds import FetchHolds
from agents.engine.lane import Lane
from agents.engine.lane_lines import MAX_PARKED
from agents.future_stamps import future_stamps
from app.errors import OffsetsLost
from app.kafka.types import TopicPartition
from app.names import PROCESSING, WAITING_TABLE
from app.rules.offsets import MAX_METADATA_BYTES
from app.streaming.offset_notes import check_kept
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agents.engine.lane import LaneUser
    from agents.engine.lane_lines import Place
    from app.events import TaskCreated
    from app.kafka.types import ConsumerRecord
    from app.names import Names
    from app.rules.outgoing import Outgoing
    from app.streaming.batching import RecordBatch
    from app.streaming.partition import Partition
    from app.streaming.step import Step
    from app.streaming.transactions import Transactions

_COMMIT_AT_ONCE = 4_000
"""Records to send after which the committer does not wait for its interval."""
_PROGRESS_ALARM_BYTES = MAX_METADATA_BYTES // 2
"""A lane whose encoded progress is longer starts nothing more until it shrinks."""


class WorkerLanes:
    """All lanes of a worker, and their committer. Implements `partition.PartitionObserver`.

    Guarantee: records sent through a lane and the lane's progress are committed in one transaction, exactly once.
    """

    def __init__(
        self,
        transactions: Transactions,
        *,
        names: Names,
        queue: str = DEFAULT_QUEUE,
        commit_interval_s: float,
        gather_s: float = GATHER_S,
        max_parked: int = MAX_PARKED,
        crowded_bytes: int = _PROGRESS_ALARM_BYTES,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`max_parked`: tasks of one lane that may wait in memory beside the table; `crowded_bytes`: see there."""
        self.transactions = transactions
        self.names = names
        self.waiting_changelog = names.changelog(PROCESSING, WAITING_TABLE, queue)
        self._max_parked = max_parked
        self._crowded_bytes = crowded_bytes
        self._clock_ms = clock_ms
        self._commit_interval_s = commit_interval_s
        self._users: dict[str, LaneUser] = {}
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._changed = asyncio.Event()
        self._plenty = asyncio.Event()
        self._quiet = asyncio.Event()
        self._outgoing_count = 0
        self._is_committing = False
        self.holds = FetchHolds(self._lanes, transactions.ownership)
        self.ends = DelayedEnds(gather_s, on_sent=self._quiet.set)
        transactions.ownership.observers.append(self)

    @property
    def is_settled(self) -> bool:
        """Whether all that was sent is committed."""
        return not (self._outgoing_count or self._is_committing or self.ends.count)

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def register(self, user: LaneUser, topics: Sequence[str]) -> None:
        """Let `user` work the lanes of `topics`, those that are ready already included."""
        for topic in topics:
            self._users[topic] = user
            for partition in self.transactions.ownership.partitions.values():
                if partition.active:
                    # It was ready before its user was: nobody would tell it, and its records would be passed over.
                    self._open(partition, topic)

    async def commit_forever(self) -> None:
        """Commit what changes until cancelled: the committer. The app owns it, not the engine.

        It must outlive the engine, so that what that finishes while the worker stops is committed.
        """
        loop = asyncio.get_running_loop()
        due_at_s = 0.0
        while True:
            await self._changed.wait()
            pause_s = due_at_s - loop.time()
            if pause_s > 0 and not self._plenty.is_set():
                try:
                    async with asyncio.timeout(pause_s):
                        await self._plenty.wait()
                except TimeoutError:
                    pass
            due_at_s = loop.time() + self._commit_interval_s
            async with self.transactions.step() as step:
                self._is_committing = True
                collected = self._collect(step)
            self._is_committing = False
            for lane, noted in collected:
                lane.committed()
                _wake(noted)
            self._quiet.set()

    def take(self, batch: RecordBatch) -> Lane | None:
        """Queue what of a batch is not done yet in its lane, and return the lane; None if it is not ours."""
        lane = self._lanes.get((batch.topic, batch.partition))
        if lane is None:
            return None
        admitted = self.transactions.admit(batch, lane.progress.taken_to)
        if admitted is None:
            return None
        for record in admitted.records:
            if lane.progress.take(record.offset):
                lane.waiting.append(record)
        lane.progress.take_to(admitted.end)
        if admitted.records:
            newest_ms, now_ms = admitted.records[-1].timestamp, self._clock_ms()
            if newest_ms > now_ms:
                newest_ms = future_stamps.believe(f"{lane.topic}-{lane.partition.number}", newest_ms, now_ms)
            lane.stream_time_ms = max(lane.stream_time_ms, newest_ms)
            self.holds.derive(lane)
        self.mark(lane)
        return lane

    def send(self, lane: Lane, outgoing: Outgoing) -> None:
        """Send a record with the lane's next commit."""
        if lane.lost:
            # A handler that would not be cancelled: its task belongs to another worker now.
            return
        lane.outbox.append(outgoing)
        self._outgoing_count += 1
        if self._outgoing_count >= _COMMIT_AT_ONCE:
            self._plenty.set()
        if not lane.changed:
            self.mark(lane)

    def check_size(self, outgoing: Outgoing) -> None:
        """Raise `RecordTooLarge` if the record's topic does not take it."""
        self.transactions.topic_limits.check_size(outgoing.topic, outgoing.key, outgoing.value, outgoing.headers)

    def put(self, lane: Lane, table: str, key: bytes, value: bytes | None) -> None:
        """Set a table row with the lane's next commit, or delete it (None)."""
        lane.rows.put(table, key, value)
        self.mark(lane)

    def finish(self, lane: Lane, place: Place) -> None:
        """Note that a request is done for good."""
        lane.finish(place)
        if lane.held:
            self.holds.derive(lane)
        if not lane.changed:
            self.mark(lane)
        self._quiet.set()

    def take_back(self, topic: str, key: bytes) -> None:
        """Do not send what no step has collected yet of a topic and key."""
        for lane in self:
            kept = [one for one in lane.outbox if (one.topic, one.key) != (topic, key)]
            self._outgoing_count -= len(lane.outbox) - len(kept)
            lane.outbox = kept

    def bury(self, lane: Lane, record: ConsumerRecord, error: BaseException) -> None:
        """Send a record that cannot be read to the dead letters with the next commit."""
        if not lane.lost:
            self.send(lane, self.dead_letter(record, error))

    def dead_letter(
        self, record: ConsumerRecord, error: BaseException, *, attempts: int = 0, task: TaskCreated | None = None
    ) -> Outgoing:
        """Return a record's dead letter, see `agents.dead_letters`."""
        topic = self.names.dead_letters
        return dead_letter(
            record, error, topic=topic, limits=self.transactions.topic_limits, attempts=attempts, task=task
        )

    def note(self, lane: Lane) -> asyncio.Future[None]:
        """Commit what happened in a lane at once; returns what is done when that commit is through."""
        noted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.noted.append(noted)
        self._plenty.set()
        self.mark(lane)
        return noted

    async def leave(self, topic: str) -> None:
        """Commit that this worker leaves the lanes of a topic as it should: no death, whatever ran last."""
        left = [lane for lane in self if lane.topic == topic and lane.announced]
        for lane in left:
            lane.end_life()
        if left:
            await asyncio.wait([self.note(lane) for lane in left])

    async def wait_quiet(self) -> None:
        """Wait until something was finished or committed."""
        self._quiet.clear()
        await self._quiet.wait()

    def partition_ready(self, partition: Partition) -> None:
        """Open the lanes of a partition."""
        for topic in self._users:
            self._open(partition, topic)

    def partition_lost(self, partition: Partition) -> None:
        """Close the lanes of a partition."""
        for topic, user in self._users.items():
            lane = self._lanes.pop((topic, partition.number), None)
            if lane is not None:
                lane.lost = True
                self._outgoing_count -= len(lane.outbox)
                user.lane_lost(lane)
                _wake(lane.noted)
        self.holds.publish()
        self._quiet.set()

    def _open(self, partition: Partition, topic: str) -> None:
        user = self._users[topic]
        lane = Lane(partition, topic, max_backlog=user.max_backlog, max_parked=self._max_parked)
        self._check_kept(lane)
        self._lanes[topic, partition.number] = lane
        user.lane_ready(lane)

    def _check_kept(self, lane: Lane) -> None:
        """End the worker if records were lost that finished above the committed offset: others have their offsets."""
        partition, ownership = lane.partition, self.transactions.ownership
        tp = TopicPartition(lane.topic, partition.number)
        kept_to, end = partition.kept_to[lane.topic], partition.ends[lane.topic]
        try:
            check_kept(tp, lane.progress.known_to, kept_to, end, group_id=ownership.group_id)
        except OffsetsLost as error:
            self.transactions.fatal(error)

    def mark(self, lane: Lane) -> None:
        """Note that there is something of a lane to commit."""
        if not lane.changed:
            lane.changed = True
            self._changed.set()

    def _collect(self, step: Step) -> list[tuple[Lane, list[asyncio.Future[None]]]]:
        """Move the changes since the last commit into a step; returns its lanes, with the callers that wait for it."""
        self._changed.clear()
        self._plenty.clear()
        collected = []
        for (_topic, number), lane in self._lanes.items():
            if not lane.changed or step.partition(number) is not lane.partition:
                continue
            if step.is_full:
                self._changed.set()
                break
            sent_count = len(lane.outbox)
            noted, lane.noted = lane.noted, []
            if not lane.collect(step, self._crowded_bytes):
                # It fits again once running tasks have finished. What waits for a commit may be all that runs.
                _wake(noted)
                self._changed.set()
                continue
            self._outgoing_count -= sent_count
            collected.append((lane, noted))
        for user in set(self._users.values()):
            user.committed()
        return collected


def _wake(noted: list[asyncio.Future[None]]) -> None:
    for one in noted:
        if not one.done():
            one.set_result(None)
