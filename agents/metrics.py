"""A worker's `/metrics` on its own port: what only this process knows.

What the whole system did (tasks finished, waits, times) is in the statistics, and the API's `/metrics` has it; a worker
tells of its partitions, its steps and what it does now. So nothing is counted twice, and nothing here must outlive
the process: its counters begin anew with it, as Prometheus expects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp.web import Response
from prometheus_client import Histogram

from agents.future_stamps import future_stamps
from app.streaming.progress_monitor import owned_ratio
from app.telemetry.metrics import CONTENT_TYPE, Labelled, counter, gauge, labelled_gauge, new_registry, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

    from app.streaming.application import StreamingApp

_SIZES = (1, 10, 100, 1_000, 10_000, 100_000)
_DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def register_metrics(
    app: StreamingApp,
    *,
    more: Collector | None = None,
    last_progress_s: Callable[[], float] | None = None,
    labels: Mapping[str, str] | None = None,
) -> CollectorRegistry:
    """Add `/metrics` to a worker's web server, with what `more` collects; returns the registry.

    `last_progress_s`: when something was last done (epoch s); without it, when a step was last committed. `labels` are
    on all that this worker tells: which queue it works.
    """
    registry = new_registry(app.role, app.options.namespace)
    told: list[Collector] = [WorkerCollector(app, last_progress_s or (lambda: app.transactions.committed_at_s))]
    told += [] if more is None else [more]
    for collector in (*told, *observe_steps(app)):
        registry.register(Labelled(collector, labels or {}))

    @app.page("/metrics")
    async def metrics(_web: Any, _request: Any) -> Any:
        return Response(body=render(registry), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    return registry


def observe_steps(app: StreamingApp) -> tuple[Collector, Collector]:
    """Measure every committed step: 5 us each, while one takes milliseconds."""
    sizes = Histogram(
        "ebs_step_records", "Records and table rows that a committed step wrote", buckets=_SIZES, registry=None
    )
    durations = Histogram(
        "ebs_step_duration_seconds",
        "Time from the start of a step to its commit",
        buckets=_DURATIONS_S,
        registry=None,
    )

    def observe(record_count: int, duration_s: float) -> None:
        sizes.observe(record_count)
        durations.observe(duration_s)

    app.transactions.step_observers.append(observe)
    return sizes, durations


class WorkerCollector:
    """What every worker tells."""

    def __init__(self, app: StreamingApp, last_progress_s: Callable[[], float]) -> None:
        self._app = app
        self._last_progress_s = last_progress_s

    def collect(self) -> Iterable[Metric]:
        """Read everything where it is."""
        yield from self._work()
        yield from self._partitions()

    def _work(self) -> Iterable[Metric]:
        progress = self._app.progress_monitor
        yield counter(
            "ebs_transactions_committed_total",
            "Committed transactions",
            self._app.transactions.committed_count,
        )
        yield counter(
            "ebs_transactions_aborted_total",
            "Transactions of dead workers that this worker ended when it took over their partitions",
            self._app.transactions.ownership.aborted_count,
        )
        yield gauge("ebs_last_progress_timestamp_seconds", "Time of the last progress", self._last_progress_s())
        yield gauge(
            "ebs_standing_still", "1 if the worker makes no progress; it will exit soon", progress.verdict is not None
        )
        yield counter(
            "ebs_future_stamps_total",
            "Records and events whose time was more than a minute ahead and was replaced",
            future_stamps.count,
        )
        yield gauge("ebs_broker_reachable", "1 if the Kafka broker answers", progress.ends is not None)

    def _partitions(self) -> Iterable[Metric]:
        app = self._app
        owned = app.transactions.ownership.partitions.values()
        inputs = app.transactions.ownership.owned_inputs()
        lags = [(tp, app.progress_monitor.lag(tp)) for tp in inputs]
        yield gauge("ebs_partitions_owned", "Partitions that this worker owns", len(owned))
        yield gauge(
            "ebs_partitions_ready",
            "Partitions that this worker owns and works on",
            sum(partition.active for partition in owned),
        )
        yield gauge(
            "ebs_partitions_unowned",
            "Partitions that no member of the group owns; counted by workers without partitions",
            len(app.progress_monitor.survey.unowned) if app.progress_monitor.survey is not None else 0,
        )
        yield gauge(
            "ebs_recovery_ratio",
            "Completed share of the running restore; 1 if none is running",
            owned_ratio(app.transactions.ownership),
        )
        yield labelled_gauge(
            "ebs_consumer_lag",
            "Offsets that were not read yet; absent while the broker does not answer",
            ("topic", "partition"),
            (((tp.topic, str(tp.partition)), lag) for tp, lag in lags if lag is not None),
        )
        yield labelled_gauge(
            "ebs_commit_gap",
            "Offsets that were read but are not committed yet",
            ("topic", "partition"),
            (((tp.topic, str(tp.partition)), app.progress_monitor.commit_gap(tp)) for tp in inputs),
        )
