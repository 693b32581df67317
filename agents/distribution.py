"""The distributor: splits objects into tasks.

Reads: `objects`. Writes: `task-requests`, `task-events` (TASKS_CREATED), `dead-letters`, the table `seen`, and
`objects` itself: a record in the wrong partition is first moved to the partition of its id, then split there.
Its workers fire the schedules, too (`agents.scheduler`).
Key: the object's partition is that of its id (`app.rules.placement`); every later record carries it on.
Guarantee: one set of tasks for each object id within EBS_SEEN_RETENTION_H, however often the object is submitted. After
a crash the step runs again; its uncommitted records were never visible. A record that is not an object goes to the dead
letters, and other records do not wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.dead_letters import bury
from agents.future_stamps import future_stamps
from agents.health import register_health
from agents.heartbeat import attach_heartbeat
from agents.metrics import register_metrics
from agents.scheduler import ScheduleCollector, Scheduler
from agents.worker import create_worker_app, load_settings, tracing_of
from app.errors import DecodeError
from app.events import DECODE_ERRORS, decode_object, encode, explain_decode_error
from app.kafka.types import LOG_APPEND_TIME
from app.names import DISTRIBUTION, SCHEDULES_TABLE, SEEN_TABLE
from app.rules.distribution import SeenKeys, expired_keys, split
from app.rules.placement import partition_of
from app.settings.project import project_of
from app.streaming.topic_limits import SURELY_FITS_BYTES
from app.telemetry.metrics import counter
from app.topics.queues import routes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

    from app.kafka.types import ConsumerRecord
    from app.settings.settings import Settings
    from app.streaming.batching import RecordBatch
    from app.streaming.step import Step
    from app.streaming.topic_limits import Headers
    from app.telemetry.tracing import Tracing

OBJECTS_PER_STEP = 4_000
"""An object of three tasks is seven records to send: larger steps only cost memory and make the others wait."""
MOVED_HEADER = "ebs-moved-from"
"""Header of a moved record: topic, partition and offset at which its producer put it."""
EXPIRE_PER_STEP = 2_000
"""Ids forgotten in one step at most, so that the end of a bucket does not make one giant transaction."""


class Distributor:
    """Turns batches of `objects` into the records that a step sends."""

    def __init__(self, settings: Settings, tracing: Tracing | None = None) -> None:
        self._tracing = tracing
        self._group_id = settings.names.group(DISTRIBUTION)
        self._objects = settings.names.objects
        self._task_events = settings.names.task_events
        self._dead_letters = settings.names.dead_letters
        self._partition_count = settings.partitions
        self._default_task_count = settings.tasks_per_object
        self._max_task_count = settings.max_tasks_per_object
        self._project = project_of(settings)
        self._routes = routes_of(settings)
        self._seen = SeenKeys(round(settings.seen_retention_h * 3_600_000))
        self._stream_time_ms: dict[int, int] = {}
        self.moved_count = 0

    def distribute(self, step: Step, batch: RecordBatch, at_ms: int) -> None:
        """Distribute a batch; `at_ms` is the time of the events."""
        partition = batch.partition
        stream_time_ms = max(self._reached_ms(step, partition), self._newest_ms(batch, at_ms))
        self._stream_time_ms[partition] = stream_time_ms
        for record in batch.records:
            if step.is_full:
                # A few objects may have many large requests, which would not leave within one transaction's timeout.
                step.leave(batch, record.offset)
                break
            if self._tracing is not None and record.headers:
                self._distribute_traced(self._tracing, step, record, stream_time_ms, at_ms)
                continue
            try:
                self._distribute_one(step, record, stream_time_ms, at_ms)
            except DecodeError as error:
                bury(step, record, error, self._dead_letters)
        self._forget_old_ids(step, partition, stream_time_ms)

    def _distribute_traced(
        self, tracing: Tracing, step: Step, record: ConsumerRecord, stream_time_ms: int, at_ms: int
    ) -> None:
        traced = tracing.process(record, self._group_id)
        try:
            self._distribute_one(step, record, stream_time_ms, at_ms, None if traced is None else traced.headers)
        except DecodeError as error:
            bury(step, record, error, self._dead_letters)
            if traced is not None:
                traced.fail(error)
        finally:
            if traced is not None:
                traced.end()

    def _newest_ms(self, batch: RecordBatch, now_ms: int) -> int:
        newest_ms: int = max(record.timestamp for record in batch.records)
        if newest_ms <= now_ms:
            return newest_ms
        place = f"{batch.topic}-{batch.partition}"
        return max(future_stamps.believe(place, record.timestamp, now_ms) for record in batch.records)

    def _reached_ms(self, step: Step, partition: int) -> int:
        """Return a partition's stream time; after a restart or a rebalance only the table has it.

        If stream time went back, an id would be looked up in older buckets, and a repetition would count as new.
        """
        newest = step.rows(SEEN_TABLE, partition).last_committed_key()
        return max(self._stream_time_ms.get(partition, 0), self._seen.written_at_ms(newest) if newest else 0)

    def _distribute_one(
        self, step: Step, record: ConsumerRecord, stream_time_ms: int, at_ms: int, headers: Headers | None = None
    ) -> None:
        try:
            event = decode_object(record.value)
        except DECODE_ERRORS as error:
            raise explain_decode_error(self._objects, error) from error
        object_key = event.object_id.encode()
        right = partition_of(object_key, self._partition_count)
        if right != record.partition:
            self._move(step, record, object_key, right)
            return
        seen = step.rows(SEEN_TABLE, record.partition)
        if any(seen.get(key) is not None for key in self._seen.look_up_keys(event.object_id, stream_time_ms)):
            return
        project = self._project
        made = split(
            event,
            record.partition,
            record_bytes=len(record.value),
            default_task_count=self._default_task_count,
            max_task_count=self._max_task_count,
            at_ms=at_ms,
            arrived_at_ms=record.timestamp if record.timestamp_type == LOG_APPEND_TIME else None,
            splits=project is not None and event.asked_tasks is None and project.has("split", event.kind),
            joins=project is not None and project.has("join", event.kind),
        )
        route = self._routes.of
        requests = [(*route(request), request.task_id.encode(), encode(request)) for request in made.requests]
        if len(record.value) > SURELY_FITS_BYTES:
            # None may be sent where not all can be.
            topic, _, key, value = max(requests, key=lambda request: len(request[2]) + len(request[3]))
            step.check_size(topic, key, value, headers)
        seen.put(self._seen.write_key(event.object_id, stream_time_ms), b"1")
        for topic, partition, key, value in requests:
            step.send(topic, partition, key, value, headers)
        step.send(self._task_events, record.partition, object_key, encode(made.fact), headers)

    def _move(self, step: Step, record: ConsumerRecord, object_key: bytes, right: int) -> None:
        """Move a record to the partition of its id, which has all records of one object.

        Raises `RecordTooLarge` if the record does not fit with the additional header `ebs-moved-from`.
        """
        whence = f"{record.topic}-{record.partition}@{record.offset}".encode()
        headers = [*record.headers, (MOVED_HEADER, whence)]
        step.check_size(self._objects, object_key, record.value, headers)
        step.send(self._objects, right, object_key, record.value, headers)
        self.moved_count += 1

    def _forget_old_ids(self, step: Step, partition: int, stream_time_ms: int) -> None:
        seen = step.rows(SEEN_TABLE, partition)
        for key in expired_keys(seen.committed_keys(), self._seen, stream_time_ms, EXPIRE_PER_STEP):
            seen.delete(key)


class DistributionCollector:
    """How many records were moved to the partition of their id, and the metrics of the schedules."""

    def __init__(self, distributor: Distributor, schedules: ScheduleCollector) -> None:
        self._distributor = distributor
        self._schedules = schedules

    def collect(self) -> Iterable[Metric]:
        """Read it where it is."""
        yield counter(
            "ebs_objects_moved_total",
            "Objects that distribution moved to the partition of their id",
            self._distributor.moved_count,
        )
        yield from self._schedules.collect()


_settings = load_settings()
app = create_worker_app(DISTRIBUTION, _settings)
app.Table(SEEN_TABLE, partitions=_settings.partitions, help="object ids that were distributed, for deduplication")
app.Table(SCHEDULES_TABLE, partitions=_settings.partitions, help="schedules, and when they fire next")
attach_heartbeat(app, _settings.names.workers)
register_health(app)
_distributor = Distributor(_settings, tracing_of(_settings, DISTRIBUTION))
_scheduler = Scheduler(app.transactions, _settings)
register_metrics(app, more=DistributionCollector(_distributor, ScheduleCollector(_scheduler)))


@app.task
async def fire() -> None:
    """Fire schedules, from the worker's start to its end."""
    await _scheduler.run()


@app.agent(app.input)
async def distribution(stream: Any) -> None:
    """Split objects into tasks."""
    async for step in app.transactions.steps(stream, max_records=OBJECTS_PER_STEP):
        async with step:
            for batch in step.batches:
                work = _scheduler.take if batch.topic == _settings.names.schedules else _distributor.distribute
                work(step, batch, step.began_at_ms)
