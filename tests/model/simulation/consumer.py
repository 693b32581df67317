"""The consumer of a worker: it joins the group, fetches and delivers, as `app.streaming.consumer` does on aiokafka.

Faust and aiokafka's consumer run in threads of their own, which a model cannot have; so this one stands in for both.
It calls the product's hooks in their order, uses its assignor, and behaves as aiokafka where that matters: heartbeats
go on while a rebalance waits for the step in hand; each assignment begins anew at the committed offsets, of kept
partitions too, as they are now (not the stable ones); what was fetched for another position is dropped; what is not
wanted waits; a lost membership makes it join under a new id.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.kafka.fencing import Membership
from app.streaming.assignor import CopartitionedAssignor
from app.streaming.batching import RecordBatch
from app.streaming.input_reader import Fetching
from simulation import requests
from simulation.group import ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS, UNKNOWN_MEMBER_ID

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Mapping, Sequence

    from app.streaming.transactions import Transactions
    from simulation.network import Network

_BACKOFF_S = 0.1
_FETCH_WAIT_S = 2.0
_STREAM_BUFFER_BATCHES = 8
_JOIN_S = 10.0
_BEATS_PER_SESSION = 3


class Stream:
    """What an agent reads: batches, at most as many as Faust's buffer holds."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[RecordBatch] = asyncio.Queue(_STREAM_BUFFER_BATCHES)

    async def put(self, batch: RecordBatch) -> None:
        """Deliver a batch; waits while the agent has enough."""
        await self._queue.put(batch)

    async def events(self) -> AsyncIterator[Any]:
        """Yield events that carry a batch each."""
        while True:
            yield SimpleNamespace(value=await self._queue.get())


class _Fetched(NamedTuple):
    records: list[Any]
    start: int
    end: int


class _Assignment:
    """One generation's partitions, each with its position (None: not known yet) and what was fetched of it."""

    def __init__(self, partitions: Sequence[TopicPartition]) -> None:
        self.positions: dict[TopicPartition, int | None] = dict.fromkeys(partitions)
        self.fetched: dict[TopicPartition, _Fetched] = {}
        self.asked: set[TopicPartition] = set()

    def free(self) -> list[TopicPartition]:
        """Return the partitions that nothing is known of and nothing is asked of."""
        return [tp for tp in self.positions if tp not in self.fetched and tp not in self.asked]


class SimulatedConsumer:
    """Implements `InputReader`; `streams` has the stream of each topic."""

    def __init__(
        self,
        network: Network,
        transactions: Transactions,
        streams: Mapping[str, Stream],
        *,
        client_id: str,
        session_s: float,
        rng: random.Random,
    ) -> None:
        self.assignor = CopartitionedAssignor()
        self.delivered: dict[TopicPartition, int] = {}
        self.membership = Membership(-1, "")
        self._network = network
        self._transactions = transactions
        self._group_id = transactions.ownership.group_id
        self._streams = streams
        self._client_id = client_id
        self._session_s = session_s
        self._rng = rng
        self._wanted: frozenset[TopicPartition] = frozenset()
        self._assignment: _Assignment | None = None
        self._rejoin = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], None] = {}
        transactions.ownership.reader = self

    def start(self) -> None:
        """Join, fetch and deliver until stopped."""
        self._connection = self._network.connect(self._client_id)
        for job in (self._coordinate(), self._fetch(), self._deliver()):
            self._spawn(job)

    async def stop(self) -> None:
        """Leave the group."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(KafkaError, TimeoutError):
            await self._ask(requests.LeaveGroup(self._group_id, self.membership.member_id))

    def fetching(self) -> Fetching:
        """Return where the wanted partitions stand."""
        return Fetching({}, backed_up=False)

    def open_partitions(self, partitions: frozenset[TopicPartition]) -> None:
        """Deliver records of these partitions from now on, and of no others."""
        self._wanted = partitions
        self._changed.set()

    async def seek_to(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Go on from these offsets."""
        assignment = self._assignment
        for tp, offset in offsets.items():
            if assignment is not None and tp in assignment.positions:
                assignment.positions[tp] = offset
                assignment.fetched.pop(tp, None)
        self._changed.set()

    async def earliest_offsets_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offsets."""
        return await self.ask_until_answered(requests.ListOffsets(partitions, "earliest"))

    async def end_offsets_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where partitions end for readers of committed records."""
        return await self.ask_until_answered(requests.ListOffsets(partitions, "stable"))

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commit offsets outside of any transaction: for the sabotage that does."""
        await self.ask_until_answered(requests.OffsetCommit(self._group_id, offsets))

    def _spawn(self, job: Any) -> None:
        task = asyncio.create_task(self._or_end(job))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        # A process may die before its first turn; Python would warn of a job that nobody has awaited.
        task.add_done_callback(lambda _task: job.close())

    async def _or_end(self, job: Any) -> None:
        """Run a job; as in the product, an error in a hook ends the process."""
        try:
            await job
        except Exception as error:  # noqa: BLE001  # as above
            self._transactions.fatal(error)

    async def _ask(self, request: Any) -> Any:
        if not self._connection.connected():
            self._connection = self._network.connect(self._client_id)
        return await self._connection.send(request)

    async def ask_until_answered(self, request: Any) -> Any:
        """Ask again until somebody answers."""
        while True:
            try:
                return await self._network.call(self._client_id, request)
            except (KafkaError, TimeoutError):
                await asyncio.sleep(_BACKOFF_S)

    async def _coordinate(self) -> None:
        is_prepared = False
        beating: asyncio.Task[None] | None = None
        while True:
            if not is_prepared:
                self._assignment = None
                await self._transactions.suspend()
                is_prepared = True
            if beating is not None:
                beating.cancel()
                await asyncio.gather(beating, return_exceptions=True)
                beating = None
            self._rejoin.clear()
            try:
                tps = await self._join()
            except (KafkaError, TimeoutError):
                tps = None
            if tps is None:
                await asyncio.sleep(_BACKOFF_S)
                continue
            is_prepared = False
            beating = asyncio.create_task(self._beat())
            self._take_over(tps)
            await self._rejoin.wait()

    def _take_over(self, tps: list[TopicPartition]) -> None:
        """Do what `Consumer.on_partitions_assigned` does."""
        numbers = {tp.partition for tp in tps}
        self.assignor.remember(self.membership.generation, numbers)
        self.delivered.clear()
        self._assignment = _Assignment(tps)
        self._transactions.resume(numbers, self.membership, self._assignment)
        self._changed.set()

    async def _join(self) -> list[TopicPartition] | None:
        """Join and sync once; returns the partitions, None if it has to be done again."""
        metadata = self.assignor.metadata(self._transactions.ownership.input_topics)
        member_id = self.membership.member_id
        # A late request of before may take the place of this one; aiokafka's patience for it ends, too.
        async with asyncio.timeout(_JOIN_S):
            joined = await self._ask(requests.JoinGroup(self._group_id, member_id, self._session_s, metadata))
        if joined.error_code:
            self._forget_membership()
            return None
        self.membership = Membership(joined.generation, joined.member_id)
        parts = {}
        if joined.members is not None:
            topics = self._network.broker.topics
            cluster: Any = SimpleNamespace(partitions_for_topic=lambda topic: set(range(topics[topic])))
            parts = self.assignor.assign(cluster, joined.members)
        synced = await self._ask(requests.SyncGroup(self._group_id, joined.member_id, joined.generation, parts))
        if synced.error_code:
            if synced.error_code != REBALANCE_IN_PROGRESS:
                self._forget_membership()
            return None
        return [TopicPartition(topic, n) for topic, numbers in synced.assignment.assignment for n in numbers]

    def _forget_membership(self) -> None:
        self.membership = Membership(-1, "")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._session_s / _BEATS_PER_SESSION)
            try:
                code = await self._ask(
                    requests.Heartbeat(self._group_id, self.membership.member_id, self.membership.generation)
                )
            except (KafkaError, TimeoutError):
                continue
            if code in (UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION):
                self._forget_membership()
            if code:
                self._rejoin.set()
            if code in (UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION):
                return

    async def _fetch(self) -> None:
        """Ask for every partition of which nothing is there and nothing is asked for."""
        while True:
            assignment = self._assignment
            if assignment is not None and (free := assignment.free()):
                assignment.asked.update(free)
                self._spawn(self._fetch_some(assignment, free))
            await self._wait_for_change()

    async def _fetch_some(self, assignment: _Assignment, partitions: list[TopicPartition]) -> None:
        connection = self._network.connect(self._client_id)
        try:
            await self._find_positions(assignment, connection, partitions)
            asked = {tp: assignment.positions[tp] or 0 for tp in partitions}
            answer = await connection.send(requests.Fetch(asked, self._rng.randint(1, 12), _FETCH_WAIT_S))
        except (KafkaError, TimeoutError):
            await asyncio.sleep(_BACKOFF_S)
        else:
            for tp, (records, end) in answer.items():
                if assignment.positions[tp] == asked[tp]:
                    assignment.fetched[tp] = _Fetched(records, asked[tp], end)
        connection.close()
        assignment.asked.difference_update(partitions)
        self._changed.set()

    async def _find_positions(self, assignment: _Assignment, connection: Any, partitions: list[TopicPartition]) -> None:
        """Begin where the group has committed; a seek that comes meanwhile counts."""
        unknown = [tp for tp in partitions if assignment.positions[tp] is None]
        if unknown:
            committed = await connection.send(requests.PlainOffsetFetch(self._group_id, unknown))
            for tp, (offset, _metadata) in committed.items():
                if assignment.positions[tp] is None:
                    assignment.positions[tp] = max(0, offset)

    async def _deliver(self) -> None:
        while True:
            assignment = self._assignment
            ready = [] if assignment is None else [tp for tp in assignment.fetched if tp in self._wanted]
            if assignment is None or not ready:
                await self._wait_for_change()
                continue
            tp = self._rng.choice(ready)
            fetched = assignment.fetched.pop(tp)
            if fetched.start != assignment.positions[tp]:
                continue
            assignment.positions[tp] = fetched.end
            batch = RecordBatch(*tp, fetched.records, fetched.start, fetched.end, assignment)
            if assignment is self._transactions.ownership.assignment:
                self.delivered[tp] = batch.end
            await self._streams[tp.topic].put(batch)
            self._changed.set()

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
