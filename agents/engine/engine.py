"""The processing engine: a bounded pool of running tasks, independent of partitions.

Records of any lane start in any order as soon as the pool has room, and finish in any order (`worker_lanes`
commits the results). A slow task blocks neither other tasks nor their results. The path of a record:

    take -> intake -> _dispatch -> admission.admits -> pool.start -> handler -> outcomes -> lanes.commit_forever
                          ^                | no
                          +-- released <-- lines (a pause, a limit of its kind or key)
                          +-- due <-- the table `waiting` (a retry, a delay)

Each is a file here: `worker_lanes` (progress by partition, the committer), `intake` (what waits), `admission` (what may
start now), `kind_limits` and `kind_rates` (what limits that), `lane_lines` (what may not start now), `line_releases`
(when it may), `redriven_tasks` (two redrives make one run), `pool` (what runs), `attempt_outcomes` (what becomes of an
attempt, its events), `waiting_tasks` (what waits for its time), `strays` (what lies in a wrong queue), `breaker`
(pauses a kind that dies), `draining` (a worker that gives up its partitions), `engine_report` (what it says of that).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from agents.engine.admission import Admission
from agents.engine.attempt_outcomes import AttemptOutcomes
from agents.engine.breaker import Breaker
from agents.engine.engine_report import EngineReport
from agents.engine.intake import Intake
from agents.engine.kind_limits import KindLimits
from agents.engine.pool import Pool
from agents.engine.produced_records import ProducedRecords
from agents.engine.redriven_tasks import RedrivenTasks
from agents.engine.split_outputs import SplitOutputs
from agents.engine.strays import Strays
from agents.engine.waiting_tasks import WaitingTasks
from agents.engine.waiting_window import MAX_KEYS
from app.errors import HandlersStuck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agents.engine.attempt import Attempt
    from agents.engine.attempt_tracing import AttemptTracing
    from agents.engine.lane import Lane, Ready
    from agents.engine.worker_lanes import WorkerLanes
    from agents.execution.executor import Executor
    from agents.execution.loading import Handlers
    from app.rules.breaker import DeadShares
    from app.rules.control import ControlState
    from app.rules.routing import Routes
    from app.streaming.batching import RecordBatch
    from app.topics.shapes import TopicShape

log = logging.getLogger(__name__)

_QUEUE_RECORDS = 1_000
"""Records that wait in memory for each lane beyond the pool's size; then its fetching is held."""
_INLINE_BURST = 256
"""Number of inline tasks that run before other coroutines get their turn."""


_LEAVE_LIMIT_S = 5.0
_DEATHS = (
    "partition %d: its workers have died %d time(s) in a row. Tasks that had started now run %s, until the task that "
    "causes this is found or all are done"
)


class Engine:
    """Runs handlers over the records of one input topic.

    Guarantee: handlers run at least once; events of a task are committed exactly once, in one transaction with the
    task's place in the partition. Implements `lane.LaneUser`.
    """

    def __init__(
        self,
        lanes: WorkerLanes,
        *,
        topic: str,
        routes: Routes,
        handlers: Handlers,
        control: ControlState,
        concurrency: int,
        max_tasks_per_object: int = 1_000,
        worker: str,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        tracing: AttemptTracing | None = None,
        dead_shares: DeadShares | None = None,
        output_topics: Mapping[str, TopicShape] | None = None,
        max_backlog: int | None = None,
        max_waiting_keys: int = MAX_KEYS,
    ) -> None:
        self._lanes = lanes
        self._topic = topic
        self._partition_count = routes.partition_count
        self._control = control
        self._worker = worker
        self.max_backlog = _QUEUE_RECORDS + concurrency if max_backlog is None else max_backlog
        self.waiting = WaitingTasks(
            lanes, control, clock_ms=clock_ms, on_due=self._plan_dispatch, max_keys=max_waiting_keys
        )
        self._strays = Strays(lanes, routes, topic, clock_ms=clock_ms)
        self._intake = Intake(
            lanes, self.waiting, topic=topic, partition_count=routes.partition_count, strays=self._strays
        )
        self.breaker: Breaker | None = None
        if dead_shares is not None:
            self.breaker = Breaker(dead_shares, control, lanes, worker=worker, clock_ms=clock_ms)
        self._limits = KindLimits(handlers, control, partition_count=routes.partition_count)
        outcomes = AttemptOutcomes if tracing is None else tracing.outcomes
        self._outcomes = outcomes(
            lanes,
            worker=worker,
            clock_ms=clock_ms,
            waiting=self.waiting,
            splits=SplitOutputs(lanes.names, routes, max_task_count=max_tasks_per_object),
            produced=ProducedRecords(
                lanes.names,
                partition_count=routes.partition_count,
                output_topics={} if output_topics is None else output_topics,
                check_size=lanes.check_size,
            ),
            limits=self._limits,
            breaker=self.breaker,
        )
        self._redriven = RedrivenTasks(lanes)
        self._admission = Admission(
            control,
            self._limits,
            self._outcomes,
            self._redriven,
            self._strays,
            on_release=self._plan_dispatch,
            on_fault=lanes.transactions.fatal,
        )
        self._pool = Pool(
            handlers,
            self._outcomes,
            control,
            concurrency=concurrency,
            worker=worker,
            clock_ms=clock_ms,
            on_end=self._ended,
            on_fault=lanes.transactions.fatal,
            tracing=tracing,
        )
        self.report = EngineReport(
            lanes,
            self._intake,
            self._admission.releases,
            self._pool,
            waiting=self.waiting,
            is_draining=lambda: self.is_draining,
        )
        self._draining = False
        self._dispatch_planned = False
        self._ending: asyncio.Task[None] | None = None
        lanes.register(self, [topic])

    @property
    def is_draining(self) -> bool:
        """Whether this worker starts nothing any more."""
        return self._draining or self._control.is_draining(self._worker)

    @property
    def pool(self) -> Pool:
        """What runs the attempts, for those who tell of it."""
        return self._pool

    @property
    def running(self) -> Iterable[Attempt]:
        """The attempts whose handler runs now."""
        return self._pool.running

    @property
    def abandoned_count(self) -> int:
        """Abandoned handlers that still run; each occupies a slot of the pool."""
        return self._pool.abandoned_count

    @property
    def attempt_counts(self) -> Mapping[tuple[str, str], int]:
        """Attempts that ended, by role and outcome."""
        return self._outcomes.counts

    @property
    def moved_count(self) -> int:
        """Requests that were sent on to the queue of their kind."""
        return self._strays.moved_count

    @property
    def last_progress_at_ms(self) -> int:
        """When a task last came to the end of an attempt."""
        return self._outcomes.last_progress_at_ms

    async def run(self, stream: Any) -> None:
        """Work a stream of batches until it ends: the body of an agent."""
        try:
            async for event in stream.events():
                self.take(event.value)
        except Exception as error:  # noqa: BLE001  # Faust would only start the agent again
            self._lanes.transactions.fatal(error)

    def take(self, batch: RecordBatch) -> None:
        """Queue the records of a batch that are not done yet."""
        lane = self._lanes.take(batch)
        if lane is not None:
            self._redriven.expire(lane)
            self._plan_dispatch()

    def lane_ready(self, lane: Lane) -> None:
        """Begin with a lane where its committed progress says."""
        membership = self._lanes.transactions.ownership.membership
        assert membership is not None  # of a worker that owns partitions
        lane.begin_life(membership.member_id)
        self._intake.add(lane)
        if lane.life.deaths:
            how = "in separate processes" if lane.runs_apart else "only after their start is committed"
            log.warning(_DEATHS, lane.partition.number, lane.life.deaths, how)
        self._redriven.open(lane)
        self.waiting.open(lane)
        self._strays.open(lane, self.waiting.read)
        self.waiting.control_changed(self._admission)
        self._admission.releases.lane_ready(lane)

    def lane_lost(self, lane: Lane) -> None:
        """Let go of a lane: its running tasks are cancelled, its next owner runs them again."""
        self._intake.remove(lane)
        self._strays.close(lane)
        self.waiting.close(lane)
        self._admission.releases.lane_lost(lane)
        self._pool.cancel_lane(lane)
        if self.breaker is not None and self.breaker.lane_lost(lane):
            self.control_changed()

    def committed(self) -> None:
        """Go on with lanes that were crowded, and let nothing wait in the memory of those that are."""
        for lane in self._lanes:
            if lane.crowded and lane.topic == self._topic:
                self._admission.spill(lane)
        self._plan_dispatch()

    def open(self, executor: Executor) -> None:
        """Let tasks start: the controls in force are known now."""
        self._pool.open(executor, self._plan_dispatch)
        self.control_changed()

    def control_changed(self) -> None:
        """Look again at everything that is held back, waits or runs, under the controls that are in force now."""
        self._admission.control_changed()
        if self._control.has_cancels:
            self._pool.cancel_where_asked()
            for ready in self._intake.take_cancelled(self._control):
                self._outcomes.cancel(ready)
        self.waiting.control_changed(self._admission)
        self._plan_dispatch()

    async def drain(self, limit_s: float) -> None:
        """Start nothing more, ever; wait up to `limit_s` for running tasks and commit them, hand the rest back."""
        self._draining = True
        log.info("stopping: %d running tasks have %g s to finish", len(self._pool.running), limit_s)
        await self.finish_running(limit_s)
        try:
            async with asyncio.timeout(_LEAVE_LIMIT_S):
                await self._lanes.leave(self._topic)
        except TimeoutError:
            log.warning(
                "the last commit took longer than %g s: the next owner will count this stop as a crash", _LEAVE_LIMIT_S
            )

    async def finish_running(self, limit_s: float) -> None:
        """Wait up to `limit_s` for what runs and its commit; the caller has made sure that nothing starts."""
        self._pool.hurry()
        try:
            async with asyncio.timeout(limit_s):
                while self._pool.running or not self._lanes.is_settled:
                    await self._lanes.wait_quiet()
        except TimeoutError:
            log.warning(
                "%d tasks still run after %g s: other workers will run them again", len(self._pool.running), limit_s
            )

    async def close(self) -> None:
        """Start nothing more and cancel what still runs; to be called before the executor is closed."""
        self._draining = True
        await self._pool.close()

    def _plan_dispatch(self) -> None:
        if not self._dispatch_planned:
            self._dispatch_planned = True
            asyncio.get_running_loop().call_soon(self._dispatch_or_end)

    def _dispatch_or_end(self) -> None:
        """Start the tasks that may start; after an error end the worker: a task may be lost in memory."""
        self._dispatch_planned = False
        try:
            self._dispatch()
        except Exception as error:  # noqa: BLE001  # the event loop would only log it
            self._lanes.transactions.fatal(error)

    def _dispatch(self) -> None:
        """Start what may start, one of each lane in turn, while the pool has room.

        What leaves a line, what is due, and what the log has take turns.
        """
        pool, admission = self._pool, self._admission
        pool.start_calls()
        if not self._may_start():
            return
        limit = pool.limit
        # Bound to locals: this is the inner loop of handlers that take no time.
        ready: Ready | None
        releases = admission.releases
        released, moved, opening = releases.released, releases.moved, releases.opening
        running, due = pool.running, self.waiting
        admits, start, take_next, read = admission.admits, pool.start, self._intake.next, self._intake.read
        started = 0
        line_has_turn = True
        while started < _INLINE_BURST:
            # What was started beside the pool took no place: the limit has grown with it.
            if len(running) >= limit and len(running) >= (limit := pool.limit):
                return
            started += 1
            if line_has_turn and (released or moved or opening):
                line_has_turn = False
                self._start_released()
                continue
            line_has_turn = True
            if due.is_due and due.has_turn() and (ready := due.next()) is not None:
                pass
            elif (waiting := take_next()) is not None:
                ready = read(*waiting)
            elif not due.is_due or (ready := due.next()) is None:
                if released or moved:
                    continue
                return
            if ready is not None and admits(ready):
                start(ready)
        self._plan_dispatch()

    def _may_start(self) -> bool:
        """Return whether this worker may start anything."""
        pool = self._pool
        if self._draining or pool.executor is None or self._control.is_draining(self._worker):
            return False
        if pool.abandoned_count and pool.is_stuck:
            self._end_stuck()
            return False
        return True

    def _start_released(self) -> None:
        """Start a task that has left its line, if there is one that may."""
        releases = self._admission.releases
        releases.refill()
        if releases.released:
            ready, line = releases.released.popleft()
            if self._admission.goes_on(ready, line):
                self._pool.start(ready)

    def _end_stuck(self) -> None:
        if self._ending is None:
            error = HandlersStuck(
                f"all {self._pool.size} slots are occupied by {self._pool.abandoned_count} abandoned handlers: the "
                "worker exits, so that a new one starts. Let the handlers check context.cancelled"
            )
            self._ending = asyncio.create_task(self._end(error))

    async def _end(self, error: HandlersStuck) -> None:
        """End the process once everything is committed: the failed attempts must count, or they would come back so."""
        while not self._lanes.is_settled:
            await self._lanes.wait_quiet()
        self._lanes.transactions.fatal(error)

    def _ended(self, attempt: Attempt) -> None:
        self._admission.end(attempt)
        self._plan_dispatch()
