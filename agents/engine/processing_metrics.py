"""The additional metrics of a processing worker on `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.telemetry.metrics import counter, gauge, labelled_counter, labelled_gauge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

    from agents.engine.engine import Engine


class ProcessingCollector:
    """Running handlers, those left behind, and tasks that wait in its partitions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """Read everything where it is."""
        pool = self._engine.pool
        yield gauge("ebs_tasks_in_progress", "Handlers that are running in this worker", len(pool.running))
        yield gauge("ebs_tasks_in_progress_limit", "Maximum number of handlers that run at once", pool.size)
        yield counter(
            "ebs_handlers_abandoned_total",
            "Handlers that did not stop when asked to",
            0 if pool.executor is None else pool.executor.abandoned_count,
        )
        yield gauge(
            "ebs_handlers_abandoned",
            "Abandoned handlers that still run; each occupies a slot of the pool",
            pool.abandoned_count,
        )
        yield labelled_counter(
            "ebs_attempts_total",
            "Attempts that ended in this worker; outcome: finished, failed (the task is tried again) or dead",
            ["role", "outcome"],
            sorted(self._engine.attempt_counts.items()),
        )
        breaker = self._engine.breaker
        yield counter(
            "ebs_breaker_trips_total",
            "Times that this worker paused a kind because too many of its tasks died",
            0 if breaker is None else breaker.trip_count,
        )
        yield counter(
            "ebs_requests_moved_total",
            "Requests that this worker sent on because their kind has another queue",
            self._engine.moved_count,
        )
        waiting = self._engine.report.waiting_counts()
        yield labelled_gauge(
            "ebs_tasks_waiting",
            "Tasks in this worker's partitions that wait: for their time, for a pause or for a limit",
            ["reason"],
            [((one.reason,), one.waiting_count) for one in waiting],
        )
        yield labelled_gauge(
            "ebs_tasks_waiting_next_due_timestamp_seconds",
            "Time when the next waiting task is due; absent if none waits",
            ["reason"],
            [((one.reason,), one.next_due_at_ms / 1_000) for one in waiting if one.next_due_at_ms is not None],
        )
