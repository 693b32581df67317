"""An engine at work in a test: what goes in, and what is on the topics after each commit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiokafka import TopicPartition
from fake_steps import FakeStore
from fakes import FakeStream, FakeWorker
from histories import task_event
from loaded_handlers import in_hand, limits
from plain_names import TASK_EVENTS, TASK_REQUESTS

from agents.engine.engine import Engine
from agents.engine.waiting_window import MAX_KEYS
from agents.engine.worker_lanes import WorkerLanes
from agents.execution.executor import Executor
from agents.execution.loading import Handlers
from app.events import TaskCreated, TaskFinished, decode_task_event, decode_task_request, encode
from app.names import BARE, REDRIVEN_TABLE, WAITING_TABLE
from app.rules.control import ControlState
from app.rules.owner_lives import split_metadata
from app.rules.routing import Routes
from app.rules.waiting_rows import STARTED, decode_key, decode_row
from ebs.function import NO_LIMITS, StartLimits
from ebs.marks import is_inline

if TYPE_CHECKING:
    from app.events import TaskEvent
    from app.rules.breaker import DeadShares
    from app.rules.waiting_rows import WaitingKey
    from app.topics.output_topics import OutputTopic

NOW_MS = 1_795_489_276_303
PARTITIONS = 4
NEVER_MS = 1 << 50
"""What a clock says that every stamp is behind."""


def again(value: bytes, **changes: Any) -> bytes:
    """Return a request with some fields changed."""
    return encode(msgspec.structs.replace(decode_task_request(value), **changes))


def request(
    object_id: str, *, partition: int = 0, attempt: int = 1, content: str = "some content", kind: str = "default"
) -> bytes:
    """Return the request of an object's only task, made 12 ms ago."""
    task: TaskCreated = task_event(TaskCreated, object_id, 0, at_ms=NOW_MS - 12, attempt=attempt)
    content_json = msgspec.Raw(msgspec.json.encode(content))
    return encode(
        msgspec.structs.replace(task, object_partition=partition, name="a name", content=content_json, kind=kind)
    )


class Gate:
    """A handler whose tasks run until the test lets them end."""

    def __init__(self) -> None:
        self.running: dict[str, asyncio.Future[Any]] = {}
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.most_running = 0

    async def __call__(self, task: TaskCreated) -> Any:
        """Work on a task until it is let go."""
        self.started.append(task.object_id)
        ending = self.running[task.object_id] = asyncio.get_running_loop().create_future()
        self.most_running = max(self.most_running, len(self.running))
        try:
            return await ending
        except asyncio.CancelledError:
            self.cancelled.append(task.object_id)
            raise
        finally:
            del self.running[task.object_id]

    def finish(self, *object_ids: str, result: Any = None) -> None:
        """Let tasks return."""
        for object_id in object_ids or list(self.running):
            self.running[object_id].set_result(result)

    def fail(self, object_id: str, error: BaseException) -> None:
        """Let a task raise."""
        self.running[object_id].set_exception(error)


class Bench:
    """An engine at work: what goes in, and what is on the topics after each commit."""

    def __init__(
        self,
        handler: Any,
        *,
        concurrency: int = 16,
        owned: int | None = None,
        commit_interval_s: float = 0,
        gather_s: float = 0,
        control: ControlState | None = None,
        max_attempts: int = 1,
        starts: StartLimits = NO_LIMITS,
        time_limit_s: float = 60,
        handlers: Handlers | None = None,
        dead_shares: DeadShares | None = None,
        output_topics: dict[str, OutputTopic] | None = None,
        max_waiting_keys: int = MAX_KEYS,
        queues: dict[str, str] | None = None,
    ) -> None:
        self.now_ms = NOW_MS
        self.worker = FakeWorker(TASK_REQUESTS)
        self.worker.ownership.new_stores = lambda: {REDRIVEN_TABLE: FakeStore(), WAITING_TABLE: FakeStore()}
        if owned is not None:
            self.worker.ownership.give(owned)
        self.stream = FakeStream()
        self.producer = self.worker.producer
        self.control = control or ControlState()
        self.lanes = WorkerLanes(
            self.worker.transactions,
            names=BARE,
            commit_interval_s=commit_interval_s,
            gather_s=gather_s,
            clock_ms=lambda: NEVER_MS,
        )
        mode = "inline" if is_inline(handler) else "coroutine"
        within = limits(attempts=max_attempts, time_limit_s=time_limit_s)
        loaded = in_hand(lambda task, _context: handler(task), "tests:handler", mode=mode, within=within, starts=starts)
        self.handlers = handlers or Handlers(loaded, {})
        self.engine = Engine(
            self.lanes,
            topic=TASK_REQUESTS,
            routes=Routes(BARE, PARTITIONS, queues),
            handlers=self.handlers,
            control=self.control,
            concurrency=concurrency,
            worker="processing-1",
            clock_ms=lambda: self.now_ms,
            dead_shares=dead_shares,
            output_topics=output_topics,
            max_waiting_keys=max_waiting_keys,
        )
        self.running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read."""
        await self.worker.start()
        self.executor = Executor(self.handlers)
        self.engine.open(self.executor)
        self.running = asyncio.create_task(self.engine.run(self.stream))
        self.committing = asyncio.create_task(self.lanes.commit_forever())

    async def stop(self) -> None:
        """Stop as if the process were killed; an error that ended the agent is raised."""
        for number in list(self.worker.ownership.partitions):
            self.worker.ownership.take_away(number)
        self.stream.close()
        assert self.running is not None
        try:
            await self.running
        finally:
            self.committing.cancel()
            await self.engine.close()
            await self.executor.close()

    def put(self, partition: int, *values: bytes | None, start: int = 0, end: int = -1) -> None:
        """Deliver requests."""
        self.stream.put(self.worker.batch(partition, values, start=start, end=end))

    def events(self, *object_ids: str) -> list[TaskEvent]:
        """Return the committed events, of some objects or all."""
        events = [decode_task_event(one.value or b"") for one in self.producer.sent_to(TASK_EVENTS)]
        return [event for event in events if event.object_id in object_ids or not object_ids]

    def types(self, *object_ids: str) -> list[type]:
        """Return the types of the committed events."""
        return [type(event) for event in self.events(*object_ids)]

    def waiting(self) -> list[tuple[WaitingKey, TaskCreated]]:
        """Return what waits in the table, as far as it is committed: keys and requests, in order."""
        return [
            (decode_key(key), decode_task_request(decode_row(store.rows[key]).value))
            for partition in self.worker.ownership.partitions.values()
            for store in [cast("Any", partition.stores[WAITING_TABLE])]
            for key in sorted(store.rows)
            if key[:1] != STARTED
        ]

    def finished(self) -> set[str]:
        """Return the objects whose task is finished for all to see."""
        return {event.object_id for event in self.events() if isinstance(event, TaskFinished)}

    def committed(self, partition: int = 0) -> tuple[int, str]:
        """Return the committed offset and metadata of a partition."""
        committed = self.producer.offsets[TopicPartition(TASK_REQUESTS, partition)]
        return committed.offset, split_metadata(committed.metadata)[0]
