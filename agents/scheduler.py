"""Fires schedules, in the workers of distribution.

Reads: `schedules`. Writes: `objects` (an ordinary object for each instant), the table `schedules`, `dead-letters`.
Key: the name of the schedule. The name also decides the partition (`app.rules.placement`), so one worker owns each
schedule. The partition of an object is that of its id.
Guarantee: the object of an instant, and the row with the next instant, commit in one transaction. Kafka refuses it from
a worker that has lost the partition. So each instant makes exactly one object, with any number of workers, through
crashes, freezes and rebalances, and never before its time by the clock of the worker. No instant fires twice, whatever
a clock says: the next instant of a row is always after the last one.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from typing import TYPE_CHECKING

from agents.dead_letters import bury
from app.errors import DecodeError, RecordTooLarge
from app.events import encode
from app.names import SCHEDULES_TABLE
from app.rules.placement import partition_of
from app.rules.schedule_rows import (
    STATE,
    decode_state,
    definition_key,
    encode_state,
    fire,
    state_key,
    taken_state,
)
from app.rules.schedules import decode_schedule, fired_object_id, object_of, read_schedule
from app.telemetry.metrics import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

    from app.kafka.types import ConsumerRecord
    from app.rules.schedule_rows import Firing, ScheduleState
    from app.rules.schedules import Schedule
    from app.settings.settings import Settings
    from app.streaming.batching import RecordBatch
    from app.streaming.partition import Partition
    from app.streaming.step import Step
    from app.streaming.transactions import Transactions

log = logging.getLogger(__name__)

FIRINGS_PER_STEP = 2_000
"""Largest number of objects of one step, so that ordinary objects do not wait for a backlog of missed instants."""
_FIRINGS_OF_ONE = 50
"""Largest number of them that are of one schedule, so that other schedules do not wait for its backlog."""
_LONGEST_TIMER_S = 5.0
"""The clock is read again at least this often, as somebody may set it."""

Due = tuple[int, int, bytes]
"""When a schedule fires next (epoch ms), its partition, its name."""


class Scheduler:
    """Takes over definitions, and fires the schedules that are due. Implements `partition.PartitionObserver`.

    The next instant of each schedule of this worker is in memory; everything else is in the table.
    """

    def __init__(
        self,
        transactions: Transactions,
        settings: Settings,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.fired_count = 0
        self.passed_over_count = 0
        self._transactions = transactions
        self._clock_ms = clock_ms
        self._topic = settings.names.schedules
        self._objects = settings.names.objects
        self._dead_letters = settings.names.dead_letters
        self._partition_count = settings.partitions
        self._next: dict[int, dict[bytes, int]] = {}
        self._due: list[Due] = []
        self._changed = asyncio.Event()
        transactions.ownership.observers.append(self)

    def partition_ready(self, partition: Partition) -> None:
        """Take over the schedules of a partition."""
        self._next[partition.number] = {}
        for key, value in partition.stores[SCHEDULES_TABLE].items(STATE):
            if key[:1] != STATE:
                break
            self._note(partition.number, key[1:], decode_state(value).next_at_ms)

    def partition_lost(self, partition: Partition) -> None:
        """Forget the schedules of a partition: its next owner takes over the table."""
        self._next.pop(partition.number, None)

    def take(self, step: Step, batch: RecordBatch, now_ms: int) -> None:
        """Take over records of `schedules`; those that cannot be read go to the dead letters."""
        for record in batch.records:
            try:
                self._take_one(step, record, now_ms)
            except DecodeError as error:
                bury(step, record, error, self._dead_letters)

    async def run(self) -> None:
        """Fire schedules when they are due, until cancelled. Any error ends the process."""
        try:
            while True:
                self._changed.clear()
                pause_s = self._pause_s()
                if pause_s > 0:
                    await self._wait(pause_s)
                    continue
                async with self._transactions.step() as step:
                    self._fire(step)
        except Exception as error:  # noqa: BLE001  # nobody awaits it
            self._transactions.fatal(error)

    def counts(self) -> tuple[int, int | None]:
        """Return how many schedules of this worker wait for an instant, and the first instant (epoch ms)."""
        return sum(map(len, self._next.values())), self._first_ms()

    def _take_one(self, step: Step, record: ConsumerRecord, now_ms: int) -> None:
        name: bytes = record.key or b""
        if partition_of(name, self._partition_count) != record.partition:
            # In another partition another worker would fire the same schedule.
            raise DecodeError("not a valid record of schedules: its partition is not that of its key")
        rows = step.rows(SCHEDULES_TABLE, record.partition)
        if record.value is None:
            if name:
                rows.delete(definition_key(name))
                rows.delete(state_key(name))
                self._note(record.partition, name, None)
            return
        schedule = decode_schedule(record.value)
        if schedule.name.encode() != name:
            raise DecodeError(f"not a valid record of schedules: its key is not its name, {schedule.name}")
        definition, stored = rows.get(definition_key(name)), rows.get(state_key(name))
        old = None if definition is None else read_schedule(definition)
        state = taken_state(old, None if stored is None else decode_state(stored), schedule, now_ms)
        rows.put(definition_key(name), record.value)
        rows.put(state_key(name), encode_state(state))
        self._note(record.partition, name, state.next_at_ms)

    def _fire(self, step: Step) -> None:
        now_ms = self._clock_ms()
        room = FIRINGS_PER_STEP
        visited: list[tuple[int, bytes, int | None]] = []
        while room > 0 and not step.is_full and (due := self._pop(now_ms)) is not None:
            _, number, name = due
            if step.partition(number) is None:
                continue
            rows = step.rows(SCHEDULES_TABLE, number)
            definition, stored = rows.get(definition_key(name)), rows.get(state_key(name))
            if definition is None or stored is None:
                continue
            schedule = read_schedule(definition)
            firing = fire(schedule, decode_state(stored), now_ms, min(room, _FIRINGS_OF_ONE))
            self._send(step, schedule, firing, now_ms)
            self._put(step, number, name, firing.state)
            room -= len(firing.instants)
            visited.append((number, name, firing.state.next_at_ms))
        # Only now, so that schedules that are still due have their next turn after all others.
        for number, name, next_at_ms in visited:
            self._note(number, name, next_at_ms)

    def _put(self, step: Step, number: int, name: bytes, state: ScheduleState) -> None:
        step.rows(SCHEDULES_TABLE, number).put(state_key(name), encode_state(state))
        step.repeat_offset(self._topic, number)

    def _send(self, step: Step, schedule: Schedule, firing: Firing, now_ms: int) -> None:
        if firing.passed_over is not None:
            self.passed_over_count += 1
            first, last = (fired_object_id("", at_ms)[1:] for at_ms in firing.passed_over)
            text = "schedule %s skips its instants from %s to %s: no worker fired them in time (missed=%s)"
            log.warning(text, schedule.name, first, last, schedule.missed)
        for instant_ms in firing.instants:
            object_id = fired_object_id(schedule.name, instant_ms)
            key = object_id.encode()
            value = encode(object_of(schedule, object_id, now_ms))
            try:
                step.send(self._objects, partition_of(key, self._partition_count), key, value)
            except RecordTooLarge as error:
                log.error("schedule %s cannot make object %s: %s", schedule.name, object_id, error)  # noqa: TRY400  # no bug of ours
            else:
                self.fired_count += 1

    def _note(self, number: int, name: bytes, next_at_ms: int | None) -> None:
        of_partition = self._next.setdefault(number, {})
        if next_at_ms is None:
            of_partition.pop(name, None)
            return
        of_partition[name] = next_at_ms
        heapq.heappush(self._due, (next_at_ms, number, name))
        self._changed.set()

    def _first_ms(self) -> int | None:
        """Return the first instant, None if there is none; removes outdated entries."""
        while self._due:
            next_at_ms, number, name = self._due[0]
            if self._next.get(number, {}).get(name) == next_at_ms:
                return next_at_ms
            heapq.heappop(self._due)
        return None

    def _pop(self, now_ms: int) -> Due | None:
        first_ms = self._first_ms()
        return heapq.heappop(self._due) if first_ms is not None and first_ms <= now_ms else None

    def _pause_s(self) -> float:
        first_ms = self._first_ms()
        if first_ms is None:
            return _LONGEST_TIMER_S
        # A millisecond late rather than early: the clock may show the millisecond before.
        left_ms = first_ms - self._clock_ms()
        return 0.0 if left_ms <= 0 else min((left_ms + 1) / 1_000, _LONGEST_TIMER_S)

    async def _wait(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._changed.wait()
        except TimeoutError:
            pass


class ScheduleCollector:
    """The metrics of a worker's schedules."""

    def __init__(self, scheduler: Scheduler, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._scheduler = scheduler
        self._clock_ms = clock_ms

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        count, first_ms = self._scheduler.counts()
        late_s = 0.0 if first_ms is None else max(0, self._clock_ms() - first_ms) / 1_000
        yield counter("ebs_schedule_firings_total", "Objects that schedules made", self._scheduler.fired_count)
        yield counter(
            "ebs_schedules_missed_total",
            "How often a schedule passed over missed instants",
            self._scheduler.passed_over_count,
        )
        yield gauge("ebs_schedules", "Schedules of this worker that wait for their next instant", count)
        yield gauge("ebs_schedule_late_seconds", "How late the oldest due schedule of this worker is", late_s)
