"""The processing engine: a bounded pool of running tasks, free of partitions, and one committer.

Records of any partition start in any order as soon as the pool has room; they finish in any order. Every
`commit_interval_s` at most, one step commits what happened since: the events, and by partition the watermark with,
in the commit's metadata, what is started or finished above it (`app.rules.offsets`). So one slow task holds up
neither others nor their visibility, and after a crash or a rebalance exactly the unfinished tasks run again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiokafka import TopicPartition

from agents.handlers import is_inline
from app.errors import DecodeError
from app.events import (
    DECODE_ERRORS,
    TaskCreated,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskStarted,
    decode_task_request,
    encode,
    explain_decode_error,
)
from app.rules.dead_letters import Origin, dead_letter_headers, message_of
from app.rules.offsets import MAX_METADATA_BYTES, Progress
from app.topics import DEAD_LETTERS, TASK_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka.structs import ConsumerRecord

    from agents.handlers import Handler
    from app.events import TaskEvent
    from app.streaming.batching import RecordBatch
    from app.streaming.ownership import Partition
    from app.streaming.transactions import Headers, Step, Transactions

log = logging.getLogger(__name__)

_QUEUE_RECORDS = 1_000
"""Records that wait in memory for each partition beyond the pool's size; then its fetching pauses."""
_COMMIT_AT_ONCE = 4_000
"""Records to send after which the committer does not wait for its interval."""
_INLINE_BURST = 256
"""Inline tasks worked before other coroutines get their turn."""
_PROGRESS_ALARM_BYTES = MAX_METADATA_BYTES // 2
"""A partition whose encoded progress is longer starts no further task until it shrinks."""
_MAX_RESULT_BYTES = 65_536
"""Of a handler's result as JSON: it goes through every topic and table, and must fit wherever its task did."""

_encode_json = msgspec.json.Encoder().encode
_NULL = msgspec.Raw(b"null")


class Outgoing(NamedTuple):
    """A record that waits for the next commit."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None


class PartitionWork:
    """One owned partition of `task-requests`: what waits, what runs, what is to be committed."""

    __slots__ = ("changed", "crowded", "held", "lost", "outbox", "partition", "progress", "running", "waiting")

    def __init__(self, partition: Partition, topic: str) -> None:
        self.partition = partition
        self.progress = Progress(partition.next_offsets[topic], partition.metadata[topic])
        self.waiting: deque[ConsumerRecord] = deque()
        self.running: dict[int, asyncio.Task[None]] = {}
        self.outbox: list[Outgoing] = []
        self.changed = False
        self.crowded = False
        self.held = False
        self.lost = False

    def may_start(self) -> bool:
        """Return whether a record waits that may start now.

        A crowded partition still starts what an earlier life knew of: without that it could wait for ever for tasks
        to finish that nobody has started.
        """
        waiting = self.waiting
        return bool(waiting) and (not self.crowded or waiting[0].offset < self.progress.known_to)


class Attempt(NamedTuple):
    """One run of the handler: the record, its task, how long it waited (ms) and when it began (monotonic, s)."""

    work: PartitionWork
    record: ConsumerRecord
    task: TaskCreated
    wait_ms: int
    began_at_s: float

    def spent_ms(self) -> int:
        """Return the time really spent until now."""
        return round((time.perf_counter() - self.began_at_s) * 1000)


class Engine:
    """Runs a handler over the records of one input topic.

    Guarantee: handlers run at least once; events of a task are committed exactly once, in one transaction with the
    task's place in the partition. Implements `ownership.Observer`.
    """

    def __init__(
        self,
        transactions: Transactions,
        handler: Handler,
        *,
        topic: str,
        partition_count: int,
        concurrency: int,
        commit_interval_s: float,
        worker: str,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._transactions = transactions
        self._handler: Any = handler
        self._inline = is_inline(handler)
        self._topic = topic
        self._partition_count = partition_count
        self._concurrency = concurrency
        self._queue_records = _QUEUE_RECORDS + concurrency
        self._commit_interval_s = commit_interval_s
        self._worker = worker
        self._clock_ms = clock_ms
        self._works: dict[int, PartitionWork] = {}
        self._turns: deque[PartitionWork] = deque()
        self._running_count = 0
        self._outgoing_count = 0
        self._changed = asyncio.Event()
        self._plenty = asyncio.Event()
        self._quiet = asyncio.Event()
        self._draining = False
        self._dispatch_planned = False
        transactions.ownership.observers.append(self)
        for partition in transactions.ownership.partitions.values():
            if partition.active:
                # It was ready before this agent was: nobody would tell us, and its records would be passed over.
                self.partition_ready(partition)

    @property
    def running_count(self) -> int:
        """Tasks whose handler runs now."""
        return self._running_count

    async def run(self, stream: Any) -> None:
        """Work a stream of batches until it ends: the body of an agent."""
        committing = asyncio.create_task(self._commit_forever())
        try:
            async for event in stream.events():
                self.take(event.value)
        except Exception as error:  # noqa: BLE001  # Faust would only start the agent again
            self._transactions.fatal(error)
        finally:
            committing.cancel()

    def take(self, batch: RecordBatch) -> None:
        """Queue the records of a batch that are not done yet."""
        work = self._works.get(batch.partition)
        if work is None:
            return
        admitted = self._transactions.admit(batch, work.progress.taken_to)
        if admitted is None:
            return
        for record in admitted.records:
            if work.progress.take(record.offset):
                work.waiting.append(record)
        work.progress.take_to(admitted.end)
        self._mark(work)
        self._hold_if_full(work)
        self._plan_dispatch()

    def partition_ready(self, partition: Partition) -> None:
        """Begin with a partition where its committed progress says."""
        work = PartitionWork(partition, self._topic)
        self._works[partition.number] = work
        self._turns.append(work)

    def partition_lost(self, partition: Partition) -> None:
        """Let go of a partition: its running tasks are cancelled, its next owner runs them again."""
        work = self._works.pop(partition.number)
        self._turns.remove(work)
        work.lost = True
        self._outgoing_count -= len(work.outbox)
        for task in work.running.values():
            task.cancel()
        self._publish_holds()

    async def drain(self, limit_s: float) -> None:
        """Start nothing more, wait up to `limit_s` for running tasks, and commit them; the rest is handed back."""
        self._draining = True
        try:
            async with asyncio.timeout(limit_s):
                while self._running_count or self._outgoing_count:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            log.warning("%d tasks still run after %g s: they are handed back", self._running_count, limit_s)

    def _mark(self, work: PartitionWork) -> None:
        work.changed = True
        self._changed.set()

    def _send(self, work: PartitionWork, outgoing: Outgoing) -> None:
        if work.lost:
            # A handler that would not be cancelled: its task belongs to another worker now.
            return
        work.outbox.append(outgoing)
        self._outgoing_count += 1
        if self._outgoing_count >= _COMMIT_AT_ONCE:
            self._plenty.set()
        self._mark(work)

    def _send_event(self, work: PartitionWork, task: TaskCreated, event: TaskEvent) -> None:
        self._send(work, Outgoing(TASK_EVENTS, task.object_partition, task.object_id.encode(), encode(event)))

    def _plan_dispatch(self) -> None:
        if not self._dispatch_planned:
            self._dispatch_planned = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Start waiting records, one of each partition in turn, while the pool has room."""
        self._dispatch_planned = False
        turns = self._turns
        idle = 0
        started = 0
        while idle < len(turns) and self._running_count < self._concurrency and not self._draining:
            work = turns[0]
            turns.rotate(-1)
            if not work.may_start():
                idle += 1
                continue
            idle = 0
            self._start(work, work.waiting.popleft())
            if work.held:
                self._hold_if_full(work)
            started += 1
            if started == _INLINE_BURST:
                self._plan_dispatch()
                return

    def _start(self, work: PartitionWork, record: ConsumerRecord) -> None:
        try:
            task = self._decode(record)
        except DecodeError as error:
            self._bury(work, record, error, attempts=0)
            work.progress.finish(record.offset)
            return
        started_at_ms = self._clock_ms()
        attempt = Attempt(work, record, task, max(0, started_at_ms - task.at_ms), time.perf_counter())
        if work.progress.start(record.offset):
            event_id = f"s-{task.task_id}-{task.attempt}"
            started = TaskStarted(event_id, *_common(task), started_at_ms, self._worker, attempt.wait_ms)
            self._send_event(work, task, started)
        if self._inline:
            self._run_inline(attempt)
        else:
            self._running_count += 1
            work.running[record.offset] = asyncio.create_task(self._run(attempt))

    def _decode(self, record: ConsumerRecord) -> TaskCreated:
        try:
            task = decode_task_request(record.value)
        except DECODE_ERRORS as error:
            raise explain_decode_error(self._topic, error) from error
        if task.object_partition >= self._partition_count:
            # Its events would go to a partition that does not exist, which fails the whole step.
            raise DecodeError(
                f"not a valid record of {self._topic}: object_partition is {task.object_partition}, "
                f"there are {self._partition_count} partitions (EBS_PARTITIONS)"
            )
        return task

    def _run_inline(self, attempt: Attempt) -> None:
        try:
            result = self._handler(attempt.task)
        except Exception as error:  # noqa: BLE001  # whatever a handler raises fails its task, nothing else
            self._fail(attempt, error)
        else:
            self._finish(attempt, result)

    async def _run(self, attempt: Attempt) -> None:
        try:
            result = await self._handler(attempt.task)
        except asyncio.CancelledError as error:
            # The partition is gone: its next owner runs the task again. Otherwise it was the handler's own doing.
            if not attempt.work.lost:
                self._fail(attempt, error)
        except Exception as error:  # noqa: BLE001  # as in _run_inline
            self._fail(attempt, error)
        else:
            self._finish(attempt, result)
        finally:
            self._running_count -= 1
            attempt.work.running.pop(attempt.record.offset, None)
            self._plan_dispatch()
            self._quiet.set()

    def _finish(self, attempt: Attempt, result: object) -> None:
        task = attempt.task
        try:
            encoded = _NULL if result is None else _encode_result(result)
        except Exception as error:  # noqa: BLE001  # as in _run_inline: what a handler returns is anything
            self._fail(attempt, error)
            return
        finished = TaskFinished(
            f"f-{task.task_id}",
            *_common(task),
            self._clock_ms(),
            self._worker,
            attempt.wait_ms,
            attempt.spent_ms(),
            encoded,
        )
        self._send_event(attempt.work, task, finished)
        attempt.work.progress.finish(attempt.record.offset)

    def _fail(self, attempt: Attempt, error: BaseException) -> None:
        task = attempt.task
        said = f"{type(error).__qualname__}: {message_of(error)}"
        details = (*_common(task), self._clock_ms(), self._worker, attempt.wait_ms, attempt.spent_ms(), said)
        self._send_event(attempt.work, task, TaskFailed(f"x-{task.task_id}-{task.attempt}", *details))
        self._send_event(attempt.work, task, TaskDead(f"d-{task.task_id}", *details))
        self._bury(attempt.work, attempt.record, error, attempts=task.attempt)
        attempt.work.progress.finish(attempt.record.offset)

    def _bury(self, work: PartitionWork, record: ConsumerRecord, error: BaseException, *, attempts: int) -> None:
        log.warning("%s-%d@%d goes to the dead letters: %s", record.topic, record.partition, record.offset, error)
        origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
        headers = dead_letter_headers(origin, error, attempts=attempts, headers=record.headers)
        self._send(work, Outgoing(DEAD_LETTERS, record.partition, record.key, record.value, headers))

    async def _commit_forever(self) -> None:
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
            async with self._transactions.step() as step:
                self._collect(step)
            self._quiet.set()

    def _collect(self, step: Step) -> None:
        """Move what happened since the last commit into a step."""
        self._changed.clear()
        self._plenty.clear()
        for number, work in self._works.items():
            if not work.changed or step.partition(number) is not work.partition:
                continue
            metadata = work.progress.encode()
            if metadata is None:
                # It fits again once running tasks have finished: no other starts in this partition until then.
                work.crowded = True
                self._changed.set()
                continue
            work.crowded = len(metadata) > _PROGRESS_ALARM_BYTES
            for outgoing in work.outbox:
                step.send(*outgoing)
            self._outgoing_count -= len(work.outbox)
            work.outbox.clear()
            work.changed = False
            step.commit_offset(self._topic, number, work.progress.watermark, metadata)
        self._plan_dispatch()

    def _hold_if_full(self, work: PartitionWork) -> None:
        limit = self._queue_records // 2 if work.held else self._queue_records
        held = len(work.waiting) > limit
        if held != work.held:
            work.held = held
            self._publish_holds()

    def _publish_holds(self) -> None:
        held = frozenset(TopicPartition(self._topic, number) for number, work in self._works.items() if work.held)
        self._transactions.ownership.hold(held)


def _encode_result(result: object) -> msgspec.Raw:
    encoded = _encode_json(result)
    if len(encoded) > _MAX_RESULT_BYTES:
        raise ValueError(f"the result has {len(encoded)} bytes of JSON, at most {_MAX_RESULT_BYTES} are kept")
    return msgspec.Raw(encoded)


def _common(task: TaskCreated) -> tuple[str, str, int, str, int, int, int]:
    return (
        task.object_id,
        task.task_id,
        task.object_partition,
        task.kind,
        task.sequence,
        task.task_count,
        task.attempt,
    )
