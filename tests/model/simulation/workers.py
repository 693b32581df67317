"""The product's workers: what `agents.distribution`, `agents.processing` and `agents.statistics` put together.

Transactions, ownership, places, the producer with its decisions, the restore, the assignor, and of each role all that
it does with records are the product's own. In memory are the tables' stores (rocksdict), the consumer (`consumer`) and
what runs the functions (`functions`): how long each attempt takes, and its end, is what the seed has chosen.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from aiokafka.errors import KafkaError
from fake_steps import FakeStore
from fakes import ProcessEnded

from agents.counting.bookkeeper import Bookkeeper
from agents.distribution import OBJECTS_PER_STEP, Distributor
from agents.engine.control_feed import ControlFeed
from agents.engine.engine import Engine
from agents.engine.worker_lanes import WorkerLanes
from agents.execution.batch_calls import BatchCalls
from agents.execution.loading import load_handlers
from agents.scheduler import Scheduler
from app.errors import HandlerCrashed
from app.kafka.abandoned_transactions import transactional_id_of
from app.kafka.transactional_producer import TransactionalProducer
from app.names import DISTRIBUTION, PROCESSING, STATISTICS
from app.rules.control import ControlState
from app.rules.table_rows import why_no_row
from app.streaming.foreign_rows import row_check
from app.streaming.ownership import Ownership
from app.streaming.topic_limits import MAX_BATCH_BYTES
from app.streaming.transactions import Transactions
from app.topics.catalogue import NOTES_TABLES, TABLES, input_topics
from app.topics.queues import routes_of
from app.topics.shapes import TopicShape
from ebs import Reject
from ebs.batch_context import BatchContext
from simulation.consumer import SimulatedConsumer, Stream
from simulation.functions import SINK, SINK_PARTITIONS
from simulation.readers import SimulatedReaders

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from agents.execution.loading import LoadedHandler
    from app.kafka.fencing import Membership
    from app.names import WorkerGroup
    from simulation.network import Network
    from simulation.plan import Plan
    from simulation.process import Process

_DRAIN_S = 2.0


class MemoryStore(FakeStore):
    """A table's rows in one partition, which go with the process."""

    def close(self) -> None:
        """Do nothing."""


class SimulatedOwnership(Ownership):
    """The product's, with its stores in memory."""

    def _new_store(self, table: Any, _number: int) -> Any:
        store = MemoryStore()
        store.why_no_row = row_check(table.name, why_no_row, keeps_offsets=table.name == self.notes_table)
        return store


class PlannedExecutor:
    """Runs the functions, and lets their attempts end as the plan says."""

    abandoned_count = abandoned_running_count = 0

    def __init__(self, plan: Plan, process: Process) -> None:
        self._plan = plan
        self._process = process
        self.on_freed: Callable[[], None] = lambda: None
        self.calls = BatchCalls(self._call)

    async def run(self, loaded: LoadedHandler, task: Any, context: Any) -> object:
        """Work on a task; a deadly one ends the worker."""
        if loaded.batch is not None:
            return await self.calls.run(loaded, context)
        return await self._run(loaded, task, context, is_apart=False)

    async def run_apart(self, loaded: LoadedHandler, task: Any, context: Any) -> object:
        """Work on a task where it can end itself only."""
        return await self._run(loaded, task, context, is_apart=True)

    async def _run(self, loaded: LoadedHandler, task: Any, context: Any, *, is_apart: bool) -> object:
        attempt = context.attempt
        takes_s, fails = self._plan.handler(task.task_id, attempt)
        if loaded.batch is None:
            result: object = await loaded.function(task, context)
        else:
            (result,) = await loaded.function(task, BatchContext(task, context.time_limit_s, contexts=[context]))
        await asyncio.sleep(takes_s)
        if fails == "deadly":
            if is_apart:
                raise HandlerCrashed("deadly, as planned")
            self._process.end("killed")
            raise ProcessEnded
        if fails == "rejected":
            raise Reject("as planned")
        if fails:
            raise RuntimeError(f"attempt {attempt} fails as planned")
        return result

    async def _call(self, loaded: LoadedHandler, context: Any) -> object:
        """Work on tasks together: one that fails lets the whole call fail, a deadly one ends the worker."""
        ends: list[Any] = await loaded.function(context.task, context)
        plans = [self._plan.handler(one.task.task_id, one.task.attempt) for one in context.contexts]
        await asyncio.sleep(max(takes_s for takes_s, _ in plans))
        for number, (_, fails) in enumerate(plans):
            if fails == "deadly":
                self._process.end("killed")
                raise ProcessEnded
            if fails == "fails":
                raise RuntimeError("one of these attempts fails as planned")
            if fails:
                ends[number] = Reject("as planned")
        return ends


class Worker:
    """One life of a worker; `run` is its main coroutine."""

    def __init__(self, process: Process, group: WorkerGroup, network: Network, plan: Plan, rng: random.Random) -> None:
        self.role, self._queue = role, queue = group
        self.process = process
        process.worker = self
        self._plan = plan
        self._network = network
        self._rng = rng
        self.settings = plan.settings
        self._names = plan.settings.names
        group_id = self._names.group(role, queue)
        self.tables = [
            SimpleNamespace(name=name, changelog_name=self._names.changelog(role, name, queue), stores={})
            for name in TABLES[role]
        ]
        instance = process.name if plan.has_stable_ids else f"{process.name}-{process.life}"
        self.transactional_id = transactional_id_of(group_id, instance)
        self.ownership = SimulatedOwnership(
            group_id=group_id,
            input_topics=input_topics(role, self.settings, queue),
            tables=lambda: cast("Any", self.tables),
            stores=cast("Any", None),
            cluster=cast("Any", SimulatedReaders(network)),
            fatal=process.fatal,
            notes_table=NOTES_TABLES[role],
        )
        self.transactions = Transactions(ownership=self.ownership, new_producer=self._new_producer, fatal=process.fatal)
        streams = dict.fromkeys(self.ownership.input_topics, Stream())
        self._streams = streams
        self.consumer = SimulatedConsumer(
            network,
            self.transactions,
            streams,
            client_id=self.transactional_id,
            session_s=plan.session_s,
            rng=rng,
        )
        self._drain: Callable[[], Any] = _nothing_to_drain
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ask it to stop as it should (SIGTERM)."""
        self._stop.set()

    async def run(self) -> None:
        """Live until stopped or dead."""
        try:
            await self.transactions.start()
        except KafkaError as error:
            # Faust ends a worker that cannot start.
            self.process.fatal(error)
        agents = {DISTRIBUTION: self._distribute, PROCESSING: self._process, STATISTICS: self._count}
        for agent in agents[self.role]():
            asyncio.create_task(agent)  # noqa: RUF006  # the process keeps it
        self.consumer.start()
        await self._stop.wait()
        await self._drain()
        await self.transactions.stop()
        await self.consumer.stop()
        self.process.end("stopped")

    def _new_producer(self, membership: Callable[[], Membership]) -> TransactionalProducer:
        producer = TransactionalProducer(
            membership=membership,
            bootstrap_servers="model:9092",
            transactional_id=self.transactional_id,
            transaction_timeout_ms=round(self._plan.transaction_timeout_s * 1_000),
            request_timeout_ms=2_000,
            max_batch_size=MAX_BATCH_BYTES,
            linger_ms=0,
        )
        self.process.at_death.append(lambda: setattr(producer, "_closed", True))
        return producer

    def _distribute(self) -> list[Any]:
        distributor, scheduler = Distributor(self.settings), Scheduler(self.transactions, self.settings)

        async def agent() -> None:
            async for step in self.transactions.steps(self._stream, max_records=OBJECTS_PER_STEP):
                async with step:
                    for batch in step.batches:
                        is_object = batch.topic == self._names.objects
                        (distributor.distribute if is_object else scheduler.take)(step, batch, step.began_at_ms)

        return [agent(), scheduler.run()]

    def _count(self) -> list[Any]:
        bookkeeper = Bookkeeper(self.settings)

        async def agent() -> None:
            async for step in self.transactions.steps(self._stream):
                async with step:
                    bookkeeper.record(step)

        return [agent()]

    def _process(self) -> list[Any]:
        control = ControlState()
        interval_s = self.settings.commit_interval_ms / 1_000
        names, queue = self._names, self._queue
        lanes = WorkerLanes(
            self.transactions,
            names=names,
            queue=queue,
            commit_interval_s=interval_s,
            max_parked=self._plan.max_parked,
        )
        engine = Engine(
            lanes,
            topic=names.requests(queue),
            routes=routes_of(self.settings),
            handlers=load_handlers(self.settings),
            control=control,
            concurrency=self.settings.concurrency,
            worker=str(self.process),
            output_topics={SINK: TopicShape(SINK, SINK_PARTITIONS, 1)},
        )
        self._drain = lambda: engine.drain(_DRAIN_S)

        async def agent() -> None:
            if self._plan.commands:
                feed = ControlFeed(
                    cast("Any", SimulatedReaders(self._network)),
                    control,
                    names.control,
                    on_change=engine.control_changed,
                )
                feed.start()
                await feed.caught_up()
            engine.open(cast("Any", PlannedExecutor(self._plan, self.process)))
            await engine.run(self._stream)

        return [agent(), lanes.commit_forever()]

    @property
    def _stream(self) -> Stream:
        return self._streams[self.ownership.input_topics[0]]


async def _nothing_to_drain() -> None:
    """Stand in where a role has no work of its own in flight."""
