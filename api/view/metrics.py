"""The API's `/metrics`: the figures of the whole system, from the statistics in its read view.

Counters follow the statistics' tables, so a restart of any process does not reset them, and each API process reports
the same: dashboards take their `max`. Metrics are absent until the view has caught up once: an old view would report
smaller counters, and Prometheus would count everything a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import UNSET
from prometheus_client.core import HistogramMetricFamily

from api.view.behind import ViewBehind
from api.view.queues import queues_of
from app.names import PROCESSING, ROLES
from app.rules.counts import Counts, imbalance_of, total_of
from app.rules.histogram import value_of
from app.rules.ledger_states import ObjectState
from app.rules.letter_acts import LetterState
from app.rules.letter_filter import LetterFilter
from app.telemetry.metrics import counter, gauge, labelled_gauge, new_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from api.view.view import View
    from app.rules.routing import Routes

_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600)
_MAX_GROUPS = 100_000

_COUNTERS = (
    ("objects_created", "ebs_objects_created_total", "Objects that were created"),
    ("objects_finished", "ebs_objects_finished_total", "Objects whose tasks all finished"),
    ("tasks_created", "ebs_tasks_created_total", "Tasks that objects were split into"),
    ("tasks_started", "ebs_tasks_started_total", "Attempts that were started"),
    ("tasks_finished", "ebs_tasks_finished_total", "Tasks that finished"),
    ("tasks_failed", "ebs_tasks_failed_total", "Attempts that failed"),
    ("tasks_retried", "ebs_tasks_retried_total", "Failed attempts that were retried"),
    ("tasks_died", "ebs_tasks_dead_total", "Tasks that died, including those that were redriven since"),
    ("tasks_cancelled", "ebs_tasks_cancelled_total", "Tasks that were cancelled"),
    ("late_events", "ebs_window_late_events_total", "Events that were late for their window"),
    ("expired_events", "ebs_expired_events_total", "Events of objects that the ledger had already forgotten"),
)
_STATES = (
    ("queued_now", "queued"),
    ("in_progress_now", "in_progress"),
    ("retrying_now", "waiting_retry"),
    ("finished_now", "finished"),
    ("dead_now", "dead"),
    ("cancelled_now", "cancelled"),
)


_OPEN_STATES = _STATES[:3]


class _Duration(NamedTuple):
    """A histogram of the statistics: its fields, and its name."""

    histogram: str
    sum_ms: str
    name: str
    text: str


_DURATIONS = (
    _Duration("wait_histogram", "wait_ms", "ebs_task_queue_wait_seconds", "Time that a task waited before it started"),
    _Duration("spent_histogram", "spent_ms", "ebs_task_duration_seconds", "Time that handlers took"),
    _Duration(
        "object_histogram", "object_ms", "ebs_object_duration_seconds", "Time from an object's creation to its end"
    ),
)


class SystemCollector:
    """The figures of the whole system in the view. Call `read_dead_letters` first: it yields to the event loop."""

    def __init__(self, view: View, clock_ms: Callable[[], int], routes: Routes) -> None:
        self._view = view
        self._routes = routes
        self._clock_ms = clock_ms
        self._letters: dict[LetterState, int] | None = None

    async def read_dead_letters(self) -> None:
        """Count the dead letters by state, for the next `collect`."""
        self._letters = None
        if self._view.caught_up_once:
            counts = dict.fromkeys(LetterState, 0)
            try:
                for group in await self._view.dead_letters.groups(LetterFilter(), _MAX_GROUPS):
                    for state, count in group.counts.items():
                        counts[state] += count
            except ViewBehind:
                return
            self._letters = counts

    def collect(self) -> Iterable[Metric]:
        """Read everything where it is."""
        yield from self._of_the_view()
        if not self._view.caught_up_once:
            return
        try:
            kinds = self._view.statistics.totals()
        except ViewBehind:
            return
        yield from metrics_of(kinds)
        yield _objects_by_state(self._view.object_index.counts)
        yield from self._of_queues(kinds)
        by_breaker = [pause.breaker is not UNSET for pause in self._view.control.state.pauses()]
        yield labelled_gauge(
            "ebs_pauses",
            "Pauses in force, of one kind or of all",
            ["by"],
            [(("breaker",), by_breaker.count(True)), (("person",), by_breaker.count(False))],
        )
        if self._letters is not None:
            by_state = [((state.lower(),), count) for state, count in self._letters.items()]
            yield labelled_gauge("ebs_dead_letters", "Dead letters by their state", ["state"], by_state)

    def _of_queues(self, kinds: Mapping[str, Counts]) -> Iterable[Metric]:
        """Return who works, and what waits, by queue: a queue is named in the project, never by a client."""
        alive = [heard.heartbeat for heard in self._view.workers.alive(self._clock_ms())]
        queues = queues_of(self._routes, kinds, alive)
        roles = [one.role for one in alive]
        yield labelled_gauge(
            "ebs_workers",
            "Workers whose last heartbeat is at most 10 s old; those of processing by queue",
            ["role", "queue"],
            [
                *(((role, ""), roles.count(role)) for role in ROLES if role != PROCESSING),
                *(((PROCESSING, one.name), len(one.workers)) for one in queues),
            ],
        )
        yield labelled_gauge(
            "ebs_queue_tasks", "Tasks of the kinds of a queue that have not ended, by state", ["queue", "state"],
            [((one.name, state), getattr(one.counts, field)) for one in queues for field, state in _OPEN_STATES],
        )  # fmt: skip

    def _of_the_view(self) -> Iterable[Metric]:
        view = self._view
        yield gauge("ebs_view_ready", "1 once the read view has caught up", view.caught_up_once)
        if view.progress.lag_records is not None:
            yield gauge(
                "ebs_view_lag_records", "Records that the read view has not read yet", view.progress.lag_records
            )
        if view.progress.as_of_ms is not None:
            as_of_s = view.progress.as_of_ms / 1_000
            yield gauge("ebs_view_as_of_timestamp_seconds", "Time when the read view was last up to date", as_of_s)


def metrics_of(kinds: Mapping[str, Counts]) -> Iterable[Metric]:
    """Return the totals of all kinds. A kind is not a label, because clients choose kinds freely."""
    total = total_of(kinds.values())
    for field, name, text in _COUNTERS:
        yield counter(name, text, getattr(total, field))
    yield labelled_gauge(
        "ebs_tasks", "Tasks by current state", ["state"],
        [((state,), getattr(total, field)) for field, state in _STATES],
    )  # fmt: skip
    yield gauge(
        "ebs_audit_imbalance",
        "Created tasks minus tasks in all states; any value but 0 is a bug",
        imbalance_of(kinds),
    )
    for duration in _DURATIONS:
        yield _histogram(duration, getattr(total, duration.histogram), getattr(total, duration.sum_ms))


def _objects_by_state(counts: Mapping[tuple[str, ObjectState], int]) -> Metric:
    by_state = dict.fromkeys(ObjectState, 0)
    for (_, state), count in counts.items():
        by_state[state] += count
    return labelled_gauge(
        "ebs_objects", "Objects in the ledger, by current state", ["state"],
        [((state.lower(),), count) for state, count in by_state.items()],
    )  # fmt: skip


def _histogram(duration: _Duration, buckets: Mapping[int, int], sum_ms: int) -> HistogramMetricFamily:
    """Return the statistics' fine buckets in Prometheus's few, each whole in one: so no count ever goes back."""
    counts = [0] * (len(_BOUNDS_S) + 1)
    for bucket, count in buckets.items():
        value_s = value_of(bucket) / 1_000
        counts[sum(value_s > bound_s for bound_s in _BOUNDS_S)] += count
    cumulative: list[tuple[str, float]] = []
    seen = 0
    for bound, count in zip([*map(str, _BOUNDS_S), "+Inf"], counts, strict=True):
        seen += count
        cumulative.append((bound, seen))
    return HistogramMetricFamily(duration.name, duration.text, buckets=cumulative, sum_value=sum_ms / 1_000)


class SystemMetrics(NamedTuple):
    """What the route needs: the registry, and the collector that wants to be prepared."""

    registry: CollectorRegistry
    system: SystemCollector


def system_metrics(view: View, clock_ms: Callable[[], int], routes: Routes) -> SystemMetrics:
    """Return the metrics of an API process."""
    registry = new_registry("api", view.names.namespace)
    collector = SystemCollector(view, clock_ms, routes)
    registry.register(collector)
    return SystemMetrics(registry, collector)
