"""The HTTP API: `uvicorn api.main:http_app`.

Reads: `objects`, the changelogs of ledger, windows, schedules and waiting tasks, `dead-letters`, `control`,
`schedules`, `workers` (through `api.view.feed`).
Writes: `objects`, `control`, `schedules` (through `api.submit.publisher`), `dead-letters` (acts) and what a redrive
writes (through `api.redrive.letter_writer`), the SQLite file of `EBS_STATS_DB`, its view under `EBS_DATA_DIR`.
Guarantee: an answer of 202 means that the broker has the object; a broker that is away makes answers of 503, never a
process that ends. Topics of another shape end it, with one line that names the fix and exit code 1, topics that are not
known to be this system's with exit code 74.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from api import pages as dashboard
from api.access import installing as access
from api.access.exposure import host_of, refusal_of
from api.access.keys import keys_from
from api.control import queue_routes as queues
from api.control import routes as control
from api.control import worker_routes as workers
from api.dead_letters import redrive_routes as redrives
from api.dead_letters import routes as dead_letters
from api.dependencies import Collaborators
from api.objects import cancel_routes as objects
from api.objects import cancel_task_routes as cancels
from api.objects import event_routes as object_events
from api.objects import read_routes as object_reads
from api.objects import submit_routes as submits
from api.objects import task_routes as one_task
from api.redrive.bulk_redrive import BulkRedriver
from api.redrive.letter_writer import KafkaLetterWriter, LetterWriter
from api.redrive.redrive import Redriver
from api.schedules import routes as schedules
from api.server import docs_page, problems
from api.server.closing import Closing
from api.server.connections import bound_connections
from api.server.event_stream import StreamLimits
from api.server.methods import HeadAsGet
from api.server.paths import WholeSegments
from api.server.process import Shared, configure_log, exit_process, guarded
from api.server.query_names import KNOWN_ONLY
from api.service import asyncapi_routes as asyncapi
from api.service import health_routes as health
from api.service import metrics_routes as metrics
from api.service.openapi import describe
from api.statistics import audit_routes as audit
from api.statistics import routes as statistics
from api.statistics import stream_routes as statistics_stream
from api.submit.body_room import BodyRoom
from api.submit.publisher import KafkaPublisher, Publisher
from api.submit.submission import Submitter
from api.view import behind
from api.view.answers import ViewHeaders
from api.view.feed import ViewFeed
from api.view.forgotten import forgotten_before
from api.view.kafka_events import KafkaEvents
from api.view.liveness import ViewLiveness
from api.view.metrics import system_metrics
from api.view.statistics_file import StatisticsFile, StatisticsKeeper
from api.view.statistics_updates import StatisticsUpdates
from api.view.task_history import TaskHistories
from api.view.view import View
from api.waiting import routes as waiting
from app.errors import SettingsError
from app.kafka.cluster import cluster_of
from app.process.garbage import collect_garbage_less_often
from app.rules.counts import HOUR_MS
from app.settings.project import project_of
from app.settings.settings import Settings, load
from app.streaming.progress_monitor import KafkaEnds, patience_s
from app.streaming.watchdog import Watchdog
from app.telemetry.tracing_switch import tracing_from
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics
from app.topics.queues import queues_of, routes_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from api.view.event_log import EventLog
    from app.telemetry.tracing import Tracing

_log = logging.getLogger(__name__)

_PREFIX = "/api"
# Before `dead_letters`, which would take their paths for ids of letters: `redrives`.
_ROUTERS = (
    submits.router,
    objects.router,
    object_reads.router,
    object_events.router,
    one_task.router,
    redrives.router,
    dead_letters.router,
    statistics.router,
    statistics_stream.router,
    audit.router,
    control.router,
    cancels.router,
    schedules.router,
    workers.router,
    queues.router,
    waiting.router,
    health.router,
    metrics.router,
    asyncapi.router,
)


def create_http_app(
    settings: Settings,
    *,
    publisher: Publisher,
    letter_writer: LetterWriter,
    view: View,
    events: EventLog,
    clock_ms: Callable[[], int] | None = None,
    background: Sequence[Callable[[], Awaitable[None]]] = (),
    why_not_live: Callable[[], str | None] = lambda: None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Put the application together; `background` runs from the server's start to its end.

    `why_not_live` says what makes no progress, None if all does; `/livez` answers 503 with it.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(guarded(run, exit_process)) for run in background]
        try:
            with closing.listening():
                yield
        finally:
            await bulk_redriver.close()
            await letter_writer.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    app = FastAPI(
        title="ebs", version="0.1.0", lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None
    )
    clock_ms, routes = clock_ms or epoch_ms, routes_of(settings)
    submitter = Submitter(settings, publisher, view, clock_ms)
    redriver = Redriver(settings, letter_writer, publisher, view, clock_ms)
    closing = Closing()
    updates = StatisticsUpdates(view, clock_ms)
    for end in (view.waiters.wake_all, events.close, updates.shared.close):
        closing.call(end)
    bulk_redriver = BulkRedriver(redriver, view, clock_ms)
    app.state.collaborators = Collaborators(
        settings,
        publisher,
        view,
        submitter,
        redriver,
        bulk_redriver,
        closing,
        events,
        TaskHistories(events, routes),
        updates,
        StreamLimits(),
        system_metrics(view, clock_ms, routes),
        why_not_live,
    )
    app.add_middleware(HeadAsGet)
    app.add_middleware(ViewHeaders, view=view, clock_ms=clock_ms)
    problems.install(app)
    behind.install(app)
    dashboard.install(app, settings.cors_origins)
    access.install(app, settings, view, clock_ms)
    app.add_middleware(BodyRoom, limit_bytes=max(settings.max_bodies_bytes, settings.max_batch_bytes))
    if tracing is not None:
        from api.request_tracing import RequestTracing  # noqa: PLC0415  # off costs nothing, not even an import

        app.add_middleware(RequestTracing, tracing=tracing)
    app.add_middleware(WholeSegments)
    for router in _ROUTERS:
        app.include_router(router, prefix=_PREFIX, dependencies=[KNOWN_ONLY])
        # The same paths without the prefix: clients of the system that this one follows use them.
        app.include_router(router, include_in_schema=False, dependencies=[KNOWN_ONLY])
    app.add_api_route("/", _to_docs, include_in_schema=False)
    docs_page.install(app)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def epoch_ms() -> int:
    """Return the time now, in epoch ms."""
    return time.time_ns() // 1_000_000


async def _to_docs() -> RedirectResponse:
    return RedirectResponse("/docs")


def _from_environment() -> FastAPI:
    try:
        settings = load()
        project_of(settings)
        cluster = cluster_of(settings)
        tracing = tracing_from("ebs-api", settings.namespace) if settings.tracing else None
    except SettingsError as error:
        sys.exit(f"error: {error}")
    refusal = refusal_of(
        host_of(sys.argv, settings.api_host),
        published_on=settings.api_published_on,
        has_keys=bool(keys_from(settings)),
        is_open=settings.api_open,
    )
    if refusal is not None:
        sys.exit(f"error: {refusal}")
    configure_log(settings.log_level)
    bound_connections()

    # Publisher and view both wait for the broker: once is enough, and is said once.
    connect = Shared(lambda: ensure_topics(cluster, catalogue(settings)))
    names = settings.names
    view = View(
        settings.view_wait_s, forgotten_before(round(settings.ledger_retention_h * HOUR_MS), epoch_ms), names=names
    )
    publisher = KafkaPublisher(
        cluster,
        settings.publish_timeout_s,
        connect,
        objects=names.objects,
        tracing=tracing,
    )
    queues = queues_of(settings)
    feed = ViewFeed(cluster, settings.own_data_dir, view, connect, queues=queues, clock_ms=epoch_ms)
    keeper = StatisticsKeeper(view, StatisticsFile(settings.own_stats_db))
    events = KafkaEvents(cluster, names)
    letter_writer = KafkaLetterWriter(cluster, settings, view)
    watch = ViewLiveness(
        view,
        KafkaEnds(cluster, patience_s(settings.stall_timeout_s)),
        settings.stall_timeout_s,
    )
    watchdog = Watchdog(settings.stall_timeout_s, verdict=lambda: watch.verdict)
    background = (publisher.run, feed.run, keeper.run, events.run, watch.run, watchdog.run_beside_this_loop)
    app = create_http_app(
        settings,
        publisher=publisher,
        letter_writer=letter_writer,
        view=view,
        events=events,
        background=background,
        tracing=tracing,
        why_not_live=lambda: watch.verdict,
    )
    collect_garbage_less_often()
    return app


http_app = _from_environment()
