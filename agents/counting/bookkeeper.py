"""Joins batches of events into the ledger and the windows: where the system's time goes, so one loop does it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agents.counting.ledger_sweep import LedgerSweep
from agents.counting.windows import Windows
from agents.dead_letters import bury
from agents.future_stamps import future_stamps
from app.events import DECODE_ERRORS, decode_object, decode_task_event, encode, explain_decode_error
from app.names import EXPIRY_TABLE, LEDGER_TABLE, RESULTS_TABLE
from app.rules.clocks import CLOCK_TOLERANCE_MS, event_time_ms
from app.rules.counts import HOUR_MS
from app.rules.distribution import why_refused
from app.rules.follow_ups import FollowUps
from app.rules.ledger import apply_object_created, apply_task_event, counted_kind
from app.rules.ledger_expiry import (
    TIMES_KEY,
    TOLD_TO_KEY,
    StreamTimes,
    decode_times,
    decode_told_to,
    encode_times,
    is_of_expired,
    ledger_retention,
)
from app.rules.ledger_rows import ObjectRow, decode_row, encode_row
from app.rules.placement import is_misplaced
from app.rules.plain_counts import count_event
from app.rules.results import Results
from app.rules.tally import Tally
from app.rules.window_retention import late_before_ms, window_retentions
from app.topics.queues import routes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.events import ObjectCreated, TaskEvent
    from app.settings.settings import Settings
    from app.streaming.batching import RecordBatch
    from app.streaming.step import Step
    from app.streaming.tables import StepRows

_DAY_MS = 24 * HOUR_MS


class Bookkeeper:
    """Records what steps have read, by the settings of one worker."""

    def __init__(self, settings: Settings) -> None:
        self._dead_letters = settings.names.dead_letters
        self._objects = settings.names.objects
        self._routes = routes_of(settings)
        self._task_events = settings.names.task_events
        self._object_events = settings.names.object_events
        self._keep_ledger = settings.ledger
        self._partition_count = settings.partitions
        self._default_task_count = settings.tasks_per_object
        self._max_task_count = settings.max_tasks_per_object
        self._grace_ms = round(settings.window_grace_s * 1_000)
        self._retention = ledger_retention(
            round(settings.ledger_retention_h * HOUR_MS), settings.retention_days * _DAY_MS
        )
        self._windows = Windows(window_retentions(round(settings.window_retention_h * HOUR_MS)))
        self._sweep = LedgerSweep(self._retention, self._objects)
        self._now_ms = 0

    def record(self, step: Step) -> None:
        """Count all records of a step; timestamps after its beginning are replaced."""
        self._now_ms = step.began_at_ms
        by_partition: dict[int, list[RecordBatch]] = {}
        for batch in step.batches:
            by_partition.setdefault(batch.partition, []).append(batch)
        for partition, batches in by_partition.items():
            if step.is_full:
                for batch in batches:
                    step.leave(batch, batch.records[0].offset)
            else:
                self._record_partition(step, partition, batches)

    def _record_partition(self, step: Step, partition: int, batches: list[RecordBatch]) -> None:
        expiry = step.rows(EXPIRY_TABLE, partition)
        stored = expiry.get(TIMES_KEY)
        times = decode_times(stored) if stored else StreamTimes()
        tally = Tally()
        forgotten_before_ms = times.ledger_ms - self._retention.ended_ms
        told_to = decode_told_to(expiry.get(TOLD_TO_KEY))
        ledger, results = step.rows(LEDGER_TABLE, partition), step.rows(RESULTS_TABLE, partition)
        rows = _Rows(ledger, results, forgotten_before_ms, told_to)
        for batch in batches:
            if rows.follow_ups.is_full:
                step.leave(batch, batch.records[0].offset)
            elif self._keep_ledger:
                self._join(step, batch, times, rows, tally)
            else:
                self._count(step, batch, times, tally)
        self._follow_up(step, partition, rows.follow_ups)
        rows.put()
        expiry.put(TIMES_KEY, encode_times(times))
        self._windows.add(step, partition, tally, times.task_events_ms)
        self._windows.expire(step, partition, times.task_events_ms)
        if self._keep_ledger:
            self._sweep.remember(step, batches, rows.born, times)
            self._sweep.sweep(step, batches, times)

    def _join(self, step: Step, batch: RecordBatch, times: StreamTimes, rows: _Rows, tally: Tally) -> None:
        # Everything is bound outside of the loop, and one loop serves both topics.
        is_object = batch.topic == self._objects
        apply: Any = apply_object_created if is_object else apply_task_event
        newest_ms = times.objects_ms if is_object else times.task_events_ms
        late_ms = late_before_ms(newest_ms, self._grace_ms)
        row_of, at, results = rows.of, tally.at, rows.results
        due = rows.follow_ups
        for record, (event, timestamp_ms) in zip(batch.records, self._events(step, batch), strict=True):
            if timestamp_ms > newest_ms:
                newest_ms = timestamp_ms
                late_ms = late_before_ms(newest_ms, self._grace_ms)
            if event is None:
                continue
            follow_ups = None if record.offset < rows.told_to else due
            row = row_of(event)
            if row is None:
                at(event.at_ms, event.kind).expired_events += 1
            elif (news_count := apply(row, event, tally, results, follow_ups)) and event.at_ms < late_ms:
                at(event.at_ms, counted_kind(row, event)).late_events += news_count
            if due.is_full:
                step.leave(batch, record.offset + 1)
                break
        _note_time(times, newest_ms, is_object=is_object)

    def _follow_up(self, step: Step, partition: int, follow_ups: FollowUps) -> None:
        """Send the follow-ups of the step, in its transaction."""
        for end in follow_ups.ends:
            step.send(self._object_events, partition, end.object_id.encode(), encode(end))
        for made in follow_ups.new_tasks(partition, self._now_ms):
            for request in made.requests:
                step.send(*self._routes.of(request), request.task_id.encode(), encode(request))
            step.send(self._task_events, partition, made.fact.object_id.encode(), encode(made.fact))

    def _count(self, step: Step, batch: RecordBatch, times: StreamTimes, tally: Tally) -> None:
        """Count events as they come, without a ledger (EBS_LEDGER=false); a duplicate counts twice."""
        newest_ms = 0
        for event, timestamp_ms in self._events(step, batch):
            newest_ms = max(newest_ms, timestamp_ms)
            if event is not None:
                count_event(event, tally)
        _note_time(times, newest_ms, is_object=batch.topic == self._objects)

    def _events(self, step: Step, batch: RecordBatch) -> Iterator[tuple[Any, int]]:
        """Yield each record's event (None: there is none to count) and stamp, as far as both clocks are believed.

        Bad records of tasks are buried.
        """
        is_object = batch.topic == self._objects
        decode: Any = decode_object if is_object else decode_task_event
        now_ms = self._now_ms
        for record in batch.records:
            stamp_ms = record.timestamp
            if stamp_ms > now_ms:
                stamp_ms = future_stamps.believe(_place_of(batch), stamp_ms, now_ms)
            try:
                event = decode(record.value)
            except DECODE_ERRORS as error:
                event = None
                if not is_object:
                    # A bad object is buried by the distributor, once.
                    bury(step, record, explain_decode_error(batch.topic, error), self._dead_letters)
            else:
                if is_object and not self._is_counted(event, batch.partition, len(record.value)):
                    event = None
                elif event.at_ms - stamp_ms > CLOCK_TOLERANCE_MS:  # asked here, for the sake of speed
                    event = _with_believed_time(event, stamp_ms, batch)
            yield event, stamp_ms

    def _is_counted(self, event: ObjectCreated, partition: int, record_bytes: int) -> bool:
        """Return whether the distributor splits an object here: it refuses some objects, and moves misplaced ones."""
        return not (
            is_misplaced(event.object_id, partition, self._partition_count)
            or why_refused(event, record_bytes, self._default_task_count, self._max_task_count)
        )


def _with_believed_time(event: Any, stamp_ms: int, batch: RecordBatch) -> Any:
    at_ms = event_time_ms(event.at_ms, stamp_ms)
    if at_ms == event.at_ms:
        return event
    ahead_s = (event.at_ms - stamp_ms) / 1_000
    said = f"at_ms of an event is {ahead_s:.0f} s after its record was written; it counts as the record's stamp"
    future_stamps.note(_place_of(batch), said)
    return msgspec.structs.replace(event, at_ms=at_ms)


def _place_of(batch: RecordBatch) -> str:
    return f"{batch.topic}-{batch.partition}"


class _Rows:
    """The rows of ledger and results that a step changes, and the ids of the objects that it makes rows of.

    `told_to`: the follow-ups of events below this offset were sent before a replay.
    """

    def __init__(self, ledger: StepRows, results: StepRows, forgotten_before_ms: int, told_to: int) -> None:
        self._ledger = ledger
        self._results = results
        self.results = Results(results.get)
        self.follow_ups = FollowUps(self.results.result_of)
        self.told_to = told_to
        self._forgotten_before_ms = forgotten_before_ms
        self._rows: dict[bytes, ObjectRow] = {}
        self.born: list[bytes] = []

    def of(self, event: ObjectCreated | TaskEvent) -> ObjectRow | None:
        """Return the row of an event's object; None if the object was forgotten."""
        key = event.object_id.encode()
        row = self._rows.get(key)
        if row is None:
            stored = self._ledger.get(key)
            if stored:
                row = decode_row(stored)
            elif is_of_expired(event, self._forgotten_before_ms):
                return None
            else:
                row = ObjectRow()
                self.born.append(key)
            self._rows[key] = row
        return row

    def put(self) -> None:
        """Put the rows into the step."""
        put = self._ledger.put
        for key, row in self._rows.items():
            put(key, encode_row(row))
        for key, packed in self.results.changed():
            self._results.put(key, packed)


def _note_time(times: StreamTimes, newest_ms: int, *, is_object: bool) -> None:
    if is_object:
        times.objects_ms = max(times.objects_ms, newest_ms)
    else:
        times.task_events_ms = max(times.task_events_ms, newest_ms)
