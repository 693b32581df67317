"""A processing worker with its topics in memory and a time of its own: what becomes of tasks under any controls.

The engine and its lanes are the real ones, and so are the transactions; the broker is a list of records
for each partition, the consumer takes what is not held, the executor runs what the test lets go.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiokafka import TopicPartition
from fake_steps import FakeStore
from fakes import FakeStream, FakeWorker
from histories import task_event
from loaded_handlers import in_hand, limits
from plain_names import TASK_EVENTS, TASK_REQUESTS
from virtual_time import VirtualLoop

from agents.engine.engine import Engine
from agents.engine.worker_lanes import WorkerLanes
from agents.execution.batch_calls import BatchCalls
from agents.execution.loading import CallSize, Handlers
from app.events import (
    TaskCancelled,
    TaskCreated,
    TaskDead,
    TaskFinished,
    decode_task_event,
    decode_task_request,
    encode,
)
from app.names import BARE, REDRIVEN_TABLE, WAITING_TABLE
from app.rules.control import ControlState
from app.rules.routing import Routes
from app.rules.waiting_rows import IN_LINE, decode_row
from app.streaming.partition import Partition
from ebs.function import NO_LIMITS, StartLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agents.engine.attempt import Attempt
    from agents.execution.loading import LoadedHandler
    from ebs.batch_context import BatchContext
    from ebs.context import Context

PARTITIONS = 2
STEPS_S = (1, 10)
WORKER = "processing-1"
ENDS = (TaskFinished, TaskCancelled, TaskDead)
_EPOCH_MS = 1_795_489_276_303
_BATCH = 4
_SMALL = {"max_backlog": 6, "max_parked": 5, "max_waiting_keys": 2, "crowded_bytes": 12}
"""Limits so low that a handful of tasks reaches each of them."""


BATCHED = "b"
"""The kind whose tasks run in calls of up to three, if the world has batches."""


class GatedExecutor:
    """Runs handlers until the test lets them end; some may be left behind as those that swallow their cancellation.

    A call ends with the last of its tasks that the test lets go; the first of an error fails it as a whole if the error
    is a `ValueError`.
    """

    def __init__(self) -> None:
        self.calls = BatchCalls(self._call)
        self._in_calls: list[Context] = []
        self.ending: dict[tuple[str, int], asyncio.Future[None]] = {}
        self.abandoned_running_count = 0
        self.on_freed: Any = None

    async def run(self, loaded: LoadedHandler, task: TaskCreated, context: Any) -> object:
        """Work on a task until it is let go."""
        if loaded.batch is not None:
            return await self.calls.run(loaded, context)
        return await self._end(task)

    def let_go_cancelled(self) -> None:
        """End what the calls do for attempts that have left them."""
        for one in self._in_calls:
            ending = self.ending.get((one.task.task_id, one.task.attempt))
            if one.cancelled and ending is not None and not ending.done():
                ending.set_result(None)

    async def _call(self, _loaded: LoadedHandler, context: BatchContext) -> object:
        ends = (self._end(cast("TaskCreated", one.task)) for one in context.contexts)
        self._in_calls += context.contexts
        ended = await asyncio.gather(*ends, return_exceptions=True)
        self._in_calls = [one for one in self._in_calls if one not in context.contexts]
        for one in ended:
            if isinstance(one, ValueError):
                raise one
        return ended

    async def _end(self, task: TaskCreated) -> object:
        ending = asyncio.get_running_loop().create_future()
        self.ending[task.task_id, task.attempt] = ending
        try:
            return await ending
        finally:
            if self.ending.get((task.task_id, task.attempt)) is ending:
                del self.ending[task.task_id, task.attempt]


class World:
    """One worker, all that it may own, and what the test knows of every task."""

    def __init__(self, *, starts: StartLimits = NO_LIMITS, concurrency: int = 3, batches: bool = False) -> None:
        self.loop = VirtualLoop()
        self.control = ControlState()
        self.logs: dict[TopicPartition, list[bytes]] = defaultdict(list)
        self.positions: dict[TopicPartition, int] = {}
        self.created: dict[str, TaskCreated] = {}
        self.waiting: dict[int, FakeStore] = defaultdict(FakeStore)
        self._read_count = 0
        self.loop.run_until_complete(self._start(starts, concurrency=concurrency, batches=batches))

    async def _start(self, starts: StartLimits, *, concurrency: int, batches: bool) -> None:
        self.executor = GatedExecutor()
        self.worker = FakeWorker(TASK_REQUESTS)
        self.lanes = WorkerLanes(
            self.worker.transactions,
            names=BARE,
            commit_interval_s=0,
            max_parked=_SMALL["max_parked"],
            crowded_bytes=_SMALL["crowded_bytes"],
        )
        within = limits(attempts=3, time_limit_s=1e9, steps_s=STEPS_S)
        batched = in_hand(None, "shop:batch", mode="coroutine", within=within)
        batched = replace(batched, beside=True, batch=CallSize(3, 0.4))
        self.engine = Engine(
            self.lanes,
            topic=TASK_REQUESTS,
            routes=Routes(BARE, PARTITIONS),
            handlers=Handlers(
                in_hand(None, mode="coroutine", within=within, starts=starts), {BATCHED: batched} if batches else {}
            ),
            control=self.control,
            concurrency=concurrency,
            worker=WORKER,
            clock_ms=self.now_ms,
            max_backlog=_SMALL["max_backlog"],
            max_waiting_keys=_SMALL["max_waiting_keys"],
        )
        self.stream = FakeStream()
        await self.worker.start()
        self.engine.open(cast("Any", self.executor))
        self.tasks = [
            asyncio.create_task(self.engine.run(self.stream)),
            asyncio.create_task(self.lanes.commit_forever()),
        ]

    def now_ms(self) -> int:
        """Return the time of the world."""
        return _EPOCH_MS + round(self.loop.time() * 1_000)

    def submit(self, partition: int, kinds: Iterable[str], object_id: str = "") -> None:
        """Write the request of one task of each kind, each of an object of its own unless one is named."""
        for kind in kinds:
            number = len(self.created)
            owner = object_id or f"o{number}"
            task: TaskCreated = task_event(TaskCreated, owner, number, at_ms=self.now_ms())
            task = msgspec.structs.replace(task, kind=kind, object_partition=partition)
            self.created[task.task_id] = task
            self.logs[TopicPartition(TASK_REQUESTS, partition)].append(encode(task))

    def command(self, key: str, value: dict[str, Any] | None) -> None:
        """Let an operator ask for something, or revoke it (None)."""
        self.control.apply(key.encode(), None if value is None else msgspec.json.encode(value))
        self.loop.call(self.engine.control_changed)

    def give(self, number: int) -> None:
        """Let the worker own a partition from what is committed on."""
        partition = Partition(number)
        tp = TopicPartition(TASK_REQUESTS, number)
        committed = self.worker.producer.offsets.get(tp)
        offset = 0 if committed is None else committed.offset
        self.positions[tp] = partition.next_offsets[TASK_REQUESTS] = offset
        partition.metadata[TASK_REQUESTS] = "" if committed is None else committed.metadata
        partition.ends[TASK_REQUESTS] = partition.kept_to[TASK_REQUESTS] = len(self.logs[tp])
        partition.stores = cast("Any", {REDRIVEN_TABLE: FakeStore(), WAITING_TABLE: self.waiting[number]})
        partition.active = True
        self.worker.ownership.partitions[number] = partition
        for observer in self.worker.ownership.observers:
            self.loop.call(observer.partition_ready, partition)

    def take_away(self, number: int) -> None:
        """Let another worker have a partition."""
        self.loop.call(self.worker.ownership.take_away, number)

    def run(self, seconds: float = 0.5) -> None:
        """Let the worker go on until it has nothing more to do, then let time pass and do so again."""
        self.executor.let_go_cancelled()
        self._settle(0.0)
        self._settle(seconds)

    def _settle(self, seconds: float) -> None:
        self.loop.pass_time(seconds)
        while self._deliver():
            self.loop.pass_time(0.3)

    def _deliver(self) -> bool:
        """Take what was committed onto the topics, and hand out what is not held; returns whether there was any."""
        for sent in self.worker.producer.records[self._read_count :]:
            if sent.topic == TASK_REQUESTS:
                self.logs[TopicPartition(sent.topic, sent.partition)].append(sent.value or b"")
        self._read_count = len(self.worker.producer.records)
        delivered = False
        for number in self.worker.ownership.partitions:
            tp = TopicPartition(TASK_REQUESTS, number)
            position = self.positions[tp]
            values = self.logs[tp][position : position + _BATCH]
            if values and tp not in self.worker.ownership.held:
                self.positions[tp] += len(values)
                self.stream.put(self.worker.batch(number, values, start=position))
                delivered = True
        return delivered

    def running(self) -> list[Attempt]:
        """Return what runs."""
        return sorted(self.engine.running, key=lambda attempt: attempt.task.task_id)

    def end(self, attempt: Attempt, error: Exception | None = None) -> None:
        """Let a handler return, or raise."""
        ending = self.executor.ending.get((attempt.task.task_id, attempt.task.attempt))
        if ending is None or ending.done():
            return  # it waits for its call
        if error is None:
            ending.set_result(None)
        else:
            ending.set_exception(error)

    def events(self) -> Iterator[Any]:
        """Return what was committed of all tasks."""
        for sent in self.worker.producer.sent_to(TASK_EVENTS):
            yield decode_task_event(sent.value or b"")

    def ended(self) -> dict[str, list[type]]:
        """Return by task its ends: one each, in the end."""
        ends: dict[str, list[type]] = defaultdict(list)
        for event in self.events():
            if isinstance(event, ENDS):
                ends[event.task_id].append(type(event))
        return ends

    def open_requests(self) -> Iterator[tuple[Any, TaskCreated]]:
        """Return with its lane and place what of the owned partitions is not done: in the log, and in lines."""
        for lane in self.lanes:
            tp = TopicPartition(TASK_REQUESTS, lane.partition.number)
            for offset in range(lane.progress.watermark, len(self.logs[tp])):
                if offset >= lane.progress.taken_to or offset in lane.progress._open:
                    task = decode_task_request(self.logs[tp][offset])
                    yield SimpleNamespace(lane=lane, place=offset), task
            for key, value in self.waiting[lane.partition.number].rows.items():
                if key[:1] == IN_LINE:
                    yield SimpleNamespace(lane=lane, place=key), decode_task_request(decode_row(value).value)

    def free_one(self) -> None:
        """Let a handler that was left behind end after all."""
        self.executor.abandoned_running_count -= 1
        self.loop.call(self.executor.on_freed)

    def close(self) -> None:
        """End the worker."""
        self.loop.run_until_complete(self.engine.close())
        self.loop.shut(*self.tasks)
