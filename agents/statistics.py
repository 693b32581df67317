"""The statistics: an object ledger and tumbling windows, in one step.

Reads: `objects`, `task-events` (co-partitioned: an object's records meet in one partition). Writes: the tables `ledger`
and `windows`, `dead-letters` (bad task events; the distributor buries bad objects). Key: object id; a window's rows are
one for each partition, readers add them up.
Guarantee: a window counts transitions of the ledger, not events, so neither a duplicate nor any order of events
changes a figure. A crash repeats the step: rows, windows and offsets commit together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.dead_letters import bury
from agents.health import register_health
from agents.heartbeat import attach_heartbeat
from agents.statistics_pages import register_pages
from app.events import DECODE_ERRORS, decode_object, decode_task_event, explain_decode_error
from app.rules.counts import (
    HOUR_MS,
    TOTAL_SIZE_MS,
    WINDOW_MS,
    Counts,
    WindowKey,
    add_counts,
    decode_counts,
    encode_counts,
    encode_window_key,
    expired_windows,
    first_key_of,
    merged_window,
    window_ladder,
)
from app.rules.distribution import why_refused
from app.rules.ledger import ObjectRow, Tally, apply_object_created, apply_task_event, decode_row, encode_row
from app.rules.plain_counts import count_object, count_task_event
from app.topics import LEDGER_TABLE, OBJECTS, STATISTICS_APP, TASK_EVENTS, WINDOWS_TABLE
from app.worker import create_worker_app, load_settings

if TYPE_CHECKING:
    from app.events import ObjectCreated
    from app.settings import Settings
    from app.streaming.batching import RecordBatch
    from app.streaming.transactions import Step

EXPIRE_PER_STEP = 500
"""Windows of a size merged or deleted in one step at most."""


class Bookkeeper:
    """Joins batches of events into the ledger and the windows."""

    def __init__(self, settings: Settings) -> None:
        self._keep_ledger = settings.ledger
        self._default_task_count = settings.tasks_per_object
        self._max_task_count = settings.max_tasks_per_object
        self._ladder = window_ladder(round(settings.window_retention_h * HOUR_MS))
        self._stream_time_ms: dict[int, int] = {}

    def record(self, step: Step) -> None:
        """Join everything that a step has read."""
        by_partition: dict[int, list[RecordBatch]] = {}
        for batch in step.batches:
            by_partition.setdefault(batch.partition, []).append(batch)
        for partition, batches in by_partition.items():
            tally = Tally()
            if self._keep_ledger:
                self._join(step, partition, batches, tally)
            else:
                self._count_events(step, batches, tally)
            self._count(step, partition, tally)
            self._expire(step, partition, batches)

    def _count_events(self, step: Step, batches: list[RecordBatch], tally: Tally) -> None:
        """Count events as they come, without a ledger (EBS_LEDGER=false); a duplicate counts twice."""
        for batch in batches:
            is_object = batch.topic == OBJECTS
            decode: Any = decode_object if is_object else decode_task_event
            count: Any = count_object if is_object else count_task_event
            for record in batch.records:
                try:
                    event = decode(record.value)
                except DECODE_ERRORS as error:
                    if not is_object:
                        # A bad object is buried by the distributor, once.
                        bury(step, record, explain_decode_error(batch.topic, error))
                    continue
                count(event, tally)

    def _join(self, step: Step, partition: int, batches: list[RecordBatch], tally: Tally) -> None:
        ledger = step.rows(LEDGER_TABLE, partition)
        rows: dict[bytes, ObjectRow] = {}
        get = ledger.get
        for batch in batches:
            # One loop for both topics, with everything bound outside of it: this is where the system's time goes.
            is_object = batch.topic == OBJECTS
            decode: Any = decode_object if is_object else decode_task_event
            apply: Any = apply_object_created if is_object else apply_task_event
            for record in batch.records:
                try:
                    event = decode(record.value)
                except DECODE_ERRORS as error:
                    if not is_object:
                        # A bad object is buried by the distributor, once.
                        bury(step, record, explain_decode_error(batch.topic, error))
                    continue
                if is_object and self._is_refused(event):
                    # So is one that the distributor refuses.
                    continue
                key = event.object_id.encode()
                row = rows.get(key)
                if row is None:
                    stored = get(key)
                    row = rows[key] = decode_row(stored) if stored else ObjectRow()
                apply(row, event, tally)
        for key, row in rows.items():
            ledger.put(key, encode_row(row))

    def _is_refused(self, event: ObjectCreated) -> bool:
        task_count = event.task_count or self._default_task_count
        return why_refused(event, task_count, self._max_task_count) is not None

    def _count(self, step: Step, partition: int, tally: Tally) -> None:
        totals: dict[str, Counts] = {}
        for (start_ms, kind), delta in tally.deltas.items():
            add_counts(totals.setdefault(kind, Counts()), delta)
            self._add(step, partition, WindowKey(WINDOW_MS, start_ms, kind), delta)
        for kind, delta in totals.items():
            self._add(step, partition, WindowKey(TOTAL_SIZE_MS, 0, kind), delta)

    def _add(self, step: Step, partition: int, window: WindowKey, delta: Counts) -> None:
        windows = step.rows(WINDOWS_TABLE, partition)
        key = encode_window_key(window)
        stored = windows.get(key)
        if stored:
            counts = decode_counts(stored)
            add_counts(counts, delta)
            delta = counts
        windows.put(key, encode_counts(delta))

    def _expire(self, step: Step, partition: int, batches: list[RecordBatch]) -> None:
        """Merge windows that are over for long into longer ones, and let go of the oldest."""
        newest_ms = max(batch.records[-1].timestamp for batch in batches)
        stream_time_ms = self._stream_time_ms[partition] = max(newest_ms, self._stream_time_ms.get(partition, 0))
        windows = step.rows(WINDOWS_TABLE, partition)
        for size_ms, kept_ms, merged_into_ms in self._ladder:
            keys = windows.committed_keys(first_key_of(size_ms))
            for window in expired_windows(keys, size_ms, stream_time_ms - kept_ms, EXPIRE_PER_STEP):
                key = encode_window_key(window)
                stored = windows.get(key)
                if stored and merged_into_ms:
                    self._add(step, partition, merged_window(window, merged_into_ms), decode_counts(stored))
                windows.delete(key)


_settings = load_settings()
app = create_worker_app(STATISTICS_APP, _settings, input_topics=[OBJECTS, TASK_EVENTS])
app.Table(LEDGER_TABLE, partitions=_settings.partitions, help="a row an object: what happened to it and to its tasks")
app.Table(WINDOWS_TABLE, partitions=_settings.partitions, help="10 s tumbling windows by kind, and the totals")
register_pages(app)
attach_heartbeat(app)
register_health(app)
_bookkeeper = Bookkeeper(_settings)


@app.agent(app.input)
async def statistics(stream: Any) -> None:
    """Count everything, once."""
    async for step in app.transactions.steps(stream):
        async with step:
            _bookkeeper.record(step)
