"""The distributor: splits objects into tasks.

Reads: `objects`. Writes: `task-requests`, `task-events` (TASK_CREATED on both), `dead-letters`, the table `seen`.
Key: the object's partition is the one its record was written to; every later record carries it on.
Guarantee: one set of tasks an object id within EBS_SEEN_RETENTION_H, however often the object is submitted. A crash
repeats the step: none of it was visible. A record that is no object goes to the dead letters and holds up nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from agents.dead_letters import bury
from agents.health import register_health
from agents.heartbeat import attach_heartbeat
from agents.metrics import register_metrics
from app.errors import DecodeError
from app.events import DECODE_ERRORS, decode_object, encode, explain_decode_error
from app.rules.distribution import FIRST_KEY, SeenKeys, expired_keys, split
from app.topics import DISTRIBUTION_APP, OBJECTS, PLACES_TABLES, SEEN_TABLE, TASK_EVENTS, TASK_REQUESTS
from app.worker import create_worker_app, load_settings, tracing_of

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from app.settings import Settings
    from app.streaming.batching import RecordBatch
    from app.streaming.transactions import Headers, Step
    from app.tracing import Tracing

OBJECTS_PER_STEP = 4_000
"""An object of three tasks is seven records to send: larger steps only cost memory and make the others wait."""
EXPIRE_PER_STEP = 2_000
"""Ids forgotten in one step at most, so that the end of a bucket does not make one giant transaction."""


class Distributor:
    """Turns batches of `objects` into what a step sends."""

    def __init__(self, settings: Settings, tracing: Tracing | None = None) -> None:
        self._tracing = tracing
        self._partition_count = settings.partitions
        self._default_task_count = settings.tasks_per_object
        self._max_task_count = settings.max_tasks_per_object
        self._spread = settings.order != "key"
        self._seen = SeenKeys(round(settings.seen_retention_h * 3_600_000))
        self._stream_time_ms: dict[int, int] = {}

    def distribute(self, step: Step, batch: RecordBatch, at_ms: int) -> None:
        """Distribute a batch; `at_ms` is the time of the TASK_CREATED events."""
        partition = batch.partition
        stream_time_ms = max(self._reached_ms(step, partition), *(record.timestamp for record in batch.records))
        self._stream_time_ms[partition] = stream_time_ms
        for record in batch.records:
            if self._tracing is not None and record.headers:
                self._distribute_traced(self._tracing, step, record, stream_time_ms, at_ms)
                continue
            try:
                self._distribute_one(step, record, stream_time_ms, at_ms)
            except DecodeError as error:
                bury(step, record, error)
        self._forget_old_ids(step, partition, stream_time_ms)

    def _distribute_traced(
        self, tracing: Tracing, step: Step, record: ConsumerRecord, stream_time_ms: int, at_ms: int
    ) -> None:
        traced = tracing.process(record, DISTRIBUTION_APP)
        try:
            self._distribute_one(step, record, stream_time_ms, at_ms, None if traced is None else traced.headers)
        except DecodeError as error:
            bury(step, record, error)
            if traced is not None:
                traced.fail(error)
        finally:
            if traced is not None:
                traced.end()

    def _reached_ms(self, step: Step, partition: int) -> int:
        """Return how far a partition's stream time is; after a restart or a move only the table knows.

        If it went back, an id would be looked for in older buckets than its own, and a repetition taken for news.
        """
        newest = step.rows(SEEN_TABLE, partition).last_committed_key()
        return max(self._stream_time_ms.get(partition, 0), self._seen.written_at_ms(newest) if newest else 0)

    def _distribute_one(
        self, step: Step, record: ConsumerRecord, stream_time_ms: int, at_ms: int, headers: Headers | None = None
    ) -> None:
        try:
            event = decode_object(record.value)
        except DECODE_ERRORS as error:
            raise explain_decode_error(OBJECTS, error) from error
        seen = step.rows(SEEN_TABLE, record.partition)
        if any(seen.get(key) is not None for key in self._seen.look_up_keys(event.object_id, stream_time_ms)):
            return
        plans = split(
            event,
            record.partition,
            partition_count=self._partition_count,
            default_task_count=self._default_task_count,
            max_task_count=self._max_task_count,
            at_ms=at_ms,
            spread=self._spread,
        )
        seen.put(self._seen.write_key(event.object_id, stream_time_ms), b"1")
        object_key = event.object_id.encode()
        for plan in plans:
            task_key = plan.request.task_id.encode()
            step.send(TASK_REQUESTS, plan.request_partition, task_key, encode(plan.request), headers)
            step.send(TASK_EVENTS, record.partition, object_key, encode(plan.fact), headers)

    def _forget_old_ids(self, step: Step, partition: int, stream_time_ms: int) -> None:
        seen = step.rows(SEEN_TABLE, partition)
        for key in expired_keys(seen.committed_keys(FIRST_KEY), self._seen, stream_time_ms, EXPIRE_PER_STEP):
            seen.delete(key)


_settings = load_settings()
app = create_worker_app(
    DISTRIBUTION_APP, _settings, input_topics=[OBJECTS], places_table=PLACES_TABLES[DISTRIBUTION_APP]
)
app.Table(SEEN_TABLE, partitions=_settings.partitions, help="object ids that were distributed, for deduplication")
attach_heartbeat(app)
register_health(app)
register_metrics(app)
_distributor = Distributor(_settings, tracing_of(_settings, DISTRIBUTION_APP))


@app.agent(app.input)
async def distribution(stream: Any) -> None:
    """Split objects into tasks."""
    async for step in app.transactions.steps(stream, max_records=OBJECTS_PER_STEP):
        async with step:
            at_ms = time.time_ns() // 1_000_000
            for batch in step.batches:
                _distributor.distribute(step, batch, at_ms)
