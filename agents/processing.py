"""The processors: competing workers that run a handler on each task of their queue (EBS_QUEUE).

Reads: `task-requests`, or the topic of another queue, `control`. Writes: `task-events` (TASK_STARTED,
TASK_FINISHED, TASK_FAILED, TASK_RETRIED, TASK_DEAD, TASK_CANCELLED), `task-requests` (the tasks of a split), the
topics of other queues (requests whose kind went to another queue, `agents.engine.strays`), `objects`
(what functions submit), users' topics (what functions send), `dead-letters`, `control` (the pause of a kind that dies,
`agents.engine.breaker`), the tables `redriven` and `waiting` (retries and delays). Key: events go to the partition of
their object, as the request says; what waits stays in its partition; a pause has the key of a person's.
Guarantee: a handler runs at least once, its result counts exactly once. A crash runs the unfinished tasks again, and
only those; a task that had started says so once. A request that cannot be read goes to the dead letters. A task that
ends its workers is found by the third life of a worker (`owner_lives`) and dies, those beside it lose no attempt.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from agents.engine.control_feed import ControlFeed
from agents.engine.draining import Drainer
from agents.engine.engine import Engine
from agents.engine.processing_figures import ProcessingFigures, describe_running
from agents.engine.processing_metrics import ProcessingCollector
from agents.engine.worker_lanes import WorkerLanes
from agents.execution.executor import Executor
from agents.execution.loading import load_handlers
from agents.former_retries import take_over_former_retries
from agents.health import register_health
from agents.heartbeat import attach_heartbeat
from agents.metrics import register_metrics
from agents.worker import create_worker_app, load_settings, tracing_of
from app.errors import SettingsError, StepFailed
from app.names import PROCESSING, REDRIVEN_TABLE, WAITING_TABLE
from app.rules.breaker import DeadShares
from app.rules.control import ControlState
from app.topics.output_topics import read_output_topics, why_missing
from app.topics.queues import routes_of
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from app.topics.shapes import TopicShape

_settings = load_settings()
try:
    _handlers = load_handlers(_settings)
except SettingsError as error:
    sys.exit(f"error: {error}")
_names = _settings.names

app = create_worker_app(PROCESSING, _settings)
app.Table(
    REDRIVEN_TABLE, partitions=_settings.partitions, help="redriven tasks, so that a task redriven twice runs once"
)
app.Table(WAITING_TABLE, partitions=_settings.partitions, help="tasks that wait for their time: retries and delays")
_tracing = tracing_of(_settings, PROCESSING)
_attempt_tracing = None
if _tracing is not None:
    from agents.engine.attempt_tracing import AttemptTracing

    _attempt_tracing = AttemptTracing(_tracing, app.conf.id)
_dead_shares = None
if _settings.breaker_dead_share:
    _dead_shares = DeadShares(
        limit=_settings.breaker_dead_share,
        window_s=_settings.breaker_window_s,
        min_count=_settings.breaker_min_tasks,
    )
_lanes = WorkerLanes(
    app.transactions,
    names=_names,
    queue=_settings.queue,
    commit_interval_s=_settings.commit_interval_ms / 1_000,
)
_output_topics: dict[str, TopicShape] = {}
_control = ControlState(logging.getLogger(__name__).warning)
_engine = Engine(
    _lanes,
    topic=_names.requests(_settings.queue),
    routes=routes_of(_settings),
    handlers=_handlers,
    control=_control,
    concurrency=_settings.concurrency,
    max_tasks_per_object=_settings.max_tasks_per_object,
    worker=app.worker_name,
    tracing=_attempt_tracing,
    dead_shares=_dead_shares,
    output_topics=_output_topics,
)


_log = logging.getLogger(__name__)


async def _find_output_topics() -> None:
    found = await read_output_topics(app.options.cluster, _settings.output_topics)
    _output_topics.update(found)
    app.absent_topics = [name for name in _settings.output_topics if name not in found]
    if app.absent_topics:
        _log.error("%s. Until then the tasks that send to it wait", why_missing(app.absent_topics, _settings.broker))
    limits = {name: shape.max_message_bytes for name, shape in found.items() if shape.max_message_bytes is not None}
    app.transactions.topic_limits.record_bytes.update(limits)


app.before_start(_find_output_topics)
if _settings.queue == DEFAULT_QUEUE:
    take_over_former_retries(app, _lanes, _settings.partitions)
_drainer = Drainer(_engine, _control, app.stand_aside, worker=app.worker_name, limit_s=_settings.drain_s)
attach_heartbeat(
    app,
    _names.workers,
    ProcessingFigures(app.transactions, app.progress_monitor, _engine),
    queue=_settings.queue,
)
register_health(app)
register_metrics(
    app,
    more=ProcessingCollector(_engine),
    last_progress_s=lambda: _engine.last_progress_at_ms / 1_000,
    labels={"queue": _settings.queue},
)
app.describe_work = lambda: describe_running(_engine)
app.progress_monitor.is_behind = _engine.report.could_go_on


@app.task
async def commit() -> None:
    """Commit what the engine does, from the worker's start to its end."""
    try:
        await _lanes.commit_forever()
    finally:
        _end_if_cut_off("the committer")


def _control_changed() -> None:
    _engine.control_changed()
    _drainer.control_changed()


@app.agent(app.input_of(_names.requests(_settings.queue)))
async def processing(stream: Any) -> None:
    """Work tasks off."""
    executor = Executor(_handlers, process_count=_settings.handler_processes)
    feed = ControlFeed(app.options.cluster, _control, _names.control, on_change=_control_changed)
    app.progress_monitor.followed[feed.partition] = lambda: feed.position
    feed.start()
    try:
        await feed.caught_up()
        _engine.open(executor)
        await _engine.run(stream)
    finally:
        app.progress_monitor.followed.clear()
        _end_if_cut_off("the agent")
        await feed.stop()
        await _engine.close()
        await executor.close()
        await _handlers.close()


def _end_if_cut_off(what: str) -> None:
    """End the process if a part without which nothing goes on has ended though nobody stops it."""
    if not app.should_stop:
        error = StepFailed(
            f"{what} has ended although the worker is not stopping: does a handler cancel tasks that it did not create?"
        )
        app.transactions.fatal(error)


async def _drain() -> None:
    await _engine.drain(_settings.drain_s)


app.drain = _drain
