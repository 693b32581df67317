"""From settings to the Faust app of one role: what every `agents/*.py` begins with."""

from __future__ import annotations

import faulthandler
import logging
import sys
from typing import TYPE_CHECKING

from app.addresses.web_ports import reserve_web_port
from app.errors import SettingsError
from app.kafka.cluster import cluster_of
from app.kafka.groups import check_group
from app.kafka.waiting import wait_for_broker
from app.names import PROCESSING
from app.process.event_loop import use_uvloop
from app.process.forked import set_children_apart
from app.process.garbage import collect_garbage_less_often
from app.rules.table_rows import why_no_row
from app.settings import settings as settings_module
from app.streaming.application import EXIT_CONFIGURATION, StreamingApp, create_streaming_app
from app.streaming.options import StreamingOptions
from app.telemetry.log_format import faust_logging
from app.telemetry.plain_text import keep_logs_plain
from app.telemetry.quiet_log import OneOfThoseAlike
from app.telemetry.tracing_switch import tracing_from
from app.topics.catalogue import NOTES_TABLES, catalogue, input_topics, watched_topics
from app.topics.keeper import RegistryKeeper
from app.topics.making import ensure_topics
from app.topics.queues import check_queue, queues_of
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from app.kafka.cluster import Cluster
    from app.settings.settings import Settings
    from app.telemetry.tracing import Tracing

_STANDARD_ERROR = 2
_STOP_S = 15.0
"""For a stop beyond EBS_DRAIN_S: a last commit, goodbyes to the broker, and what handlers left in the process."""


def load_settings() -> Settings:
    """Return this process's settings, or end it with one clear line."""
    try:
        return settings_module.current()
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # before any logging is set up
        sys.exit(EXIT_CONFIGURATION)


def create_worker_app(role: str, settings: Settings) -> StreamingApp:
    """Return the Faust app of a role, which waits for its broker and makes its topics before it starts."""
    keep_logs_plain()
    use_uvloop()
    collect_garbage_less_often()
    log_level = _set_log_level(settings.log_level)
    cluster = _cluster_of(settings)
    queue = settings.queue if role == PROCESSING else DEFAULT_QUEUE
    group_id = settings.names.group(role, queue)
    options = StreamingOptions(
        cluster=cluster,
        data_dir=settings.own_data_dir.absolute(),  # a handler may change the directory
        worker_id=settings.worker_id,
        namespace=settings.namespace,
        session_timeout_ms=round(settings.session_timeout_s * 1000),
        transaction_timeout_ms=round(settings.transaction_timeout_s * 1000),
        stall_timeout_s=settings.stall_timeout_s,
        stop_limit_s=settings.drain_s + _STOP_S,
        web_port=(reserve_web_port() or 0) if settings.web_port is None else settings.web_port,
        web_host=settings.web_host,
        logging_config=faust_logging(),
    )

    async def preflight() -> None:
        _prepare_handlers(log_level)
        faulthandler.enable(_STANDARD_ERROR)  # a crash in native code shows where; Faust replaces sys.stderr
        set_children_apart(options.web_port)
        await wait_for_broker(cluster)
        await check_queue(cluster, settings, queue)
        specs = catalogue(settings, queues=queues_of(settings, queue))
        # What we may not read is taken to be as it was meant.
        meant = {spec.name: int(spec.config["max.message.bytes"]) for spec in specs}
        for report in await ensure_topics(cluster, specs):
            shape = report.shape
            app.transactions.topic_limits.record_bytes[shape.name] = shape.max_message_bytes or meant[shape.name]
        await check_group(cluster, group_id)
        registry = next(spec for spec in specs if spec.is_registry)
        app.add_future(RegistryKeeper(cluster, registry).run())

    app = create_streaming_app(
        group_id,
        role=role,
        worker_prefix=role if queue == DEFAULT_QUEUE else f"{role}-{queue}",
        input_topics=input_topics(role, settings, queue),
        partition_count=settings.partitions,
        options=options,
        preflight=preflight,
        notes_table=NOTES_TABLES[role],
        why_no_row=why_no_row,
        watched_topics=watched_topics(role, settings, queue),
    )
    return app


def tracing_of(settings: Settings, role: str) -> Tracing | None:
    """Return what makes this process's spans, None where none are wanted; ends it where that cannot be."""
    try:
        return tracing_from(f"ebs-{role}", settings.namespace) if settings.tracing else None
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # before any logging is set up
        sys.exit(EXIT_CONFIGURATION)


def _cluster_of(settings: Settings) -> Cluster:
    """Return how the broker is reached, or end this process with one clear line."""
    try:
        return cluster_of(settings)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # before any logging is set up
        sys.exit(EXIT_CONFIGURATION)


def _set_log_level(name: str) -> int:
    """Set the level of our own loggers; Faust's, and everybody else's, is `faust worker -l` (warn)."""
    level = {"crit": logging.CRITICAL, "warn": logging.WARNING}.get(name) or logging.getLevelName(name.upper())
    for package in ("app", "agents", "ebs"):
        logging.getLogger(package).setLevel(level)
    return int(level)


def _prepare_handlers(level: int) -> None:
    """Let our records through Faust's handler, which has a level of its own once the worker has set it up."""
    for handler in logging.getLogger().handlers:
        if handler.level > level:
            handler.setLevel(level)
        if level > logging.DEBUG:
            handler.addFilter(OneOfThoseAlike("aiokafka"))
