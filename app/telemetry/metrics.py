"""What `/metrics` of every process begins with: its build and its process; and how families of metrics are made.

Names as Prometheus wants them: prefix `ebs_`, base units, `_total` for what only grows. No ids in labels. Most values
are read from where they are when somebody asks (collectors), so they cost the work nothing, and what a worker no longer
owns is gone from its answer.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from app.process.version import installed_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def new_registry(role: str, namespace: str = "") -> CollectorRegistry:
    """Return a registry with the process's own metrics; `role` is api, distribution, processing or statistics.

    `namespace` is that of Kafka (EBS_NAMESPACE), and not called so: that label is Kubernetes's.
    """
    # One more series for each histogram and label, which nobody reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Gauge(
        "ebs_build_info",
        "Always 1; the labels say which version is running",
        ["version", "python", "role", "ebs_namespace"],
        registry=registry,
    )
    build.labels(installed_version() or "source tree", platform.python_version(), role, namespace).set(1)
    return registry


class Labelled:
    """What a collector tells, with the same labels on each of its samples."""

    def __init__(self, collector: Collector, labels: Mapping[str, str]) -> None:
        self._collector = collector
        self._labels = dict(labels)

    def collect(self) -> Iterable[Metric]:
        """Read everything where it is."""
        for family in self._collector.collect():
            family.samples = [one._replace(labels={**one.labels, **self._labels}) for one in family.samples]
            yield family


def render(registry: CollectorRegistry) -> bytes:
    """Return the page."""
    return generate_latest(registry)


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """Return a gauge without labels."""
    return GaugeMetricFamily(name, text, value=value)


def counter(name: str, text: str, value: float) -> CounterMetricFamily:
    """Return a counter without labels; its name ends in `_total`."""
    return CounterMetricFamily(name, text, value=value)


def labelled_counter(
    name: str, text: str, labels: Iterable[str], values: Iterable[tuple[tuple[str, ...], float]]
) -> CounterMetricFamily:
    """Return a counter with a value for each tuple of label values; its name ends in `_total`."""
    family = CounterMetricFamily(name, text, labels=list(labels))
    for label_values, value in values:
        family.add_metric(list(label_values), value)
    return family


def labelled_gauge(
    name: str, text: str, labels: Iterable[str], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    """Return a gauge with a value for each tuple of label values."""
    family = GaugeMetricFamily(name, text, labels=list(labels))
    for label_values, value in values:
        family.add_metric(list(label_values), value)
    return family
