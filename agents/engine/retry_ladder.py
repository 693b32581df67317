"""The retry ladder: failed tasks wait on a tier's topic until they are due, and go back to `task-requests` then.

The records of a tier are nearly in the order in which they are due, but not exactly (jitter, and delays that tasks ask
for). So they wait in a heap; none is forwarded early, and none blocks another. A waiting task is an open offset of its
lane: after a restart or a rebalance it is read again. A forwarded task is committed as finished above the watermark, in
the transaction that forwards it. So a waiting retry is never lost and never duplicated.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec

from agents.engine.event_fields import cancelled
from agents.future_stamps import future_stamps
from app.errors import RecordTooLarge
from app.events import DECODE_ERRORS, TaskCreated, decode_task_request, explain_decode_error
from app.rules.outgoing import Outgoing
from app.rules.worker_heartbeats import RetryTier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agents.engine.lane import Lane
    from agents.engine.worker_lanes import WorkerLanes
    from app.kafka.types import ConsumerRecord
    from app.rules.control import ControlState

log = logging.getLogger(__name__)

_SET_BACK_MS = 1_000
"""Less is a clock that is put right in small steps."""
MAX_WAITING = 10_000
"""Retries of one lane that wait in memory; then its fetching pauses, for these are due first."""


class RetryLadder:
    """Forwards the retries of some tiers when they are due. Implements `lane.LaneUser`."""

    def __init__(
        self,
        lanes: WorkerLanes,
        *,
        topics: Sequence[str],
        control: ControlState,
        max_waiting: int = MAX_WAITING,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        steady_ms: Callable[[], int] = lambda: int(time.monotonic() * 1_000),
    ) -> None:
        """`steady_ms` goes on as `clock_ms` does, and is never set back."""
        self._steady_ms = steady_ms
        self._read_at_ms = clock_ms(), steady_ms()
        self._lanes = lanes
        self._control = control
        self.max_backlog = max_waiting
        self._clock_ms = clock_ms
        self._count = itertools.count()
        # Due time first; the count keeps records with the same one in the order in which they came.
        self._waiting: list[tuple[int, int, Lane, ConsumerRecord, TaskCreated]] = []
        # Due, but in a lane whose progress is hard to write down already: these go in order of offset.
        self._postponed: list[tuple[int, int, Lane, ConsumerRecord, TaskCreated]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._topics = topics
        lanes.register(self, topics)

    @property
    def waiting_count(self) -> int:
        """Retries that wait in this worker's memory."""
        return sum(lane.not_due_count for lane in self._lanes)

    def could_go_on(self) -> str:
        """Return what is due and waits for nothing else, "" if nothing is: it should be on its way."""
        if self._waiting and self._waiting[0][0] <= self._clock_ms():
            return "retries are due"
        if any(
            not lane.crowded or record.offset == lane.progress.watermark for _, _, lane, record, _ in self._postponed
        ):
            return "postponed retries are due"
        return ""

    def tiers(self) -> list[RetryTier]:
        """Return of each tier how many retries wait in this worker's memory, and when the first of them is due."""
        counts = dict.fromkeys(self._topics, 0)
        for lane in self._lanes:
            if lane.topic in counts:
                counts[lane.topic] += lane.not_due_count
        first_ms: dict[str, int] = {}
        for due_at_ms, _, lane, _, _ in itertools.chain(self._waiting, self._postponed):
            if due_at_ms < first_ms.get(lane.topic, due_at_ms + 1):
                first_ms[lane.topic] = due_at_ms
        return [RetryTier(topic, count, first_ms.get(topic)) for topic, count in counts.items()]

    async def run(self, stream: Any) -> None:
        """Work a stream of batches until it ends: the body of an agent."""
        try:
            async for event in stream.events():
                lane = self._lanes.take(event.value)
                if lane is not None:
                    self._queue(lane)
        except Exception as error:  # noqa: BLE001  # Faust would only start the agent again
            self._lanes.transactions.fatal(error)

    def add_tiers(self, topics: Sequence[str]) -> None:
        """Also forward the retries of more tiers."""
        self._topics = [*self._topics, *topics]
        self._lanes.register(self, topics)

    def lane_ready(self, lane: Lane) -> None:
        """Begin with a lane where its committed progress says."""

    def lane_lost(self, lane: Lane) -> None:
        """Drop the waiting retries of a lane: its next owner reads them again."""
        self._waiting = [entry for entry in self._waiting if entry[2] is not lane]
        heapq.heapify(self._waiting)
        self._postponed = [entry for entry in self._postponed if entry[2] is not lane]

    def committed(self) -> None:
        """Go on with lanes that were crowded."""
        if self._postponed:
            asyncio.get_running_loop().call_soon(self._retry_postponed)

    def control_changed(self) -> None:
        """Remove cancelled retries."""
        if not self._control.has_cancels:
            return
        ended = [entry for entry in self._waiting if self._control.is_cancelled(entry[4]) is not None]
        if ended:
            gone = {entry[1] for entry in ended}
            self._waiting = [entry for entry in self._waiting if entry[1] not in gone]
            heapq.heapify(self._waiting)
            for _, _, lane, record, task in ended:
                self._cancel(lane, record, task)

    def _now_ms(self) -> int:
        """Return the time. Where the clock was set back, what waits is due by as much earlier: it waits no longer."""
        now_ms, steady_ms = self._clock_ms(), self._steady_ms()
        read_at_ms, self._read_at_ms = self._read_at_ms, (now_ms, steady_ms)
        back_ms = (steady_ms - read_at_ms[1]) - (now_ms - read_at_ms[0])
        if back_ms > _SET_BACK_MS and self._waiting:
            log.warning("the clock was set back by %.0f s: retries that wait keep their pauses", back_ms / 1_000)
            self._waiting = [(due_at_ms - back_ms, *rest) for due_at_ms, *rest in self._waiting]
        return now_ms

    def _queue(self, lane: Lane) -> None:
        now_ms = self._now_ms()
        while lane.waiting:
            record = lane.waiting.popleft()
            try:
                task = decode_task_request(record.value)
            except DECODE_ERRORS as error:
                self._lanes.bury(lane, record, explain_decode_error(record.topic, error))
                self._lanes.finish(lane, record.offset)
                continue
            due_at_ms = 0 if task.due_at_ms is msgspec.UNSET else task.due_at_ms
            if record.timestamp > now_ms:
                # By the clock of the worker that wrote it: the task waits as long as was meant.
                due_at_ms -= record.timestamp - future_stamps.believe(lane.topic, record.timestamp, now_ms)
            heapq.heappush(self._waiting, (due_at_ms, next(self._count), lane, record, task))
            lane.not_due_count += 1
        self._lanes.holds.derive(lane)
        self._forward_due()

    def _forward_due(self) -> None:
        """Forward the due retries, and run again when the next one is due."""
        try:
            self._forward_until(self._now_ms())
        except Exception as error:  # noqa: BLE001  # the event loop would only log it, and its timer be gone
            self._lanes.transactions.fatal(error)

    def _forward_until(self, now_ms: int) -> None:
        while self._waiting and self._waiting[0][0] <= now_ms:
            entry = heapq.heappop(self._waiting)
            _, _, lane, record, task = entry
            if lane.crowded and record.offset != lane.progress.watermark:
                self._postponed.append(entry)
                continue
            if self._control.has_cancels and self._control.is_cancelled(task) is not None:
                self._cancel(lane, record, task)
                continue
            lane.not_due_count -= 1
            headers = list(record.headers)
            outgoing = Outgoing(
                self._lanes.names.task_requests, lane.partition.number, record.key, record.value, headers
            )
            try:
                self._lanes.check_size(outgoing)
            except RecordTooLarge as error:
                self._lanes.bury(lane, record, error)
                self._lanes.finish(lane, record.offset)
                continue
            if lane.crowded:
                # At once: the next one may only go when this one counts as done.
                self._lanes.send(lane, outgoing)
                self._lanes.finish(lane, record.offset)
            else:
                self._lanes.ends.add(lane, record.offset, (outgoing,))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            # A millisecond late rather than early: the clock may be read just before it turns.
            self._timer = loop.call_later((self._waiting[0][0] - now_ms + 1) / 1_000, self._forward_due)

    def _retry_postponed(self) -> None:
        postponed, self._postponed = self._postponed, []
        for entry in postponed:
            heapq.heappush(self._waiting, entry)
        self._forward_due()

    def _cancel(self, lane: Lane, record: ConsumerRecord, task: TaskCreated) -> None:
        lane.not_due_count -= 1
        self._lanes.send(lane, cancelled(task, self._clock_ms(), self._lanes.names.task_events))
        self._lanes.finish(lane, record.offset)
