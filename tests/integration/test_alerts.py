"""Every alert fires from what real processes expose when a real thing goes wrong, and none while all is well.

In CI the Prometheus binary is there (`.ci/install-tools`); elsewhere the test is skipped without it.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaProducer
from feed import feed
from fleet import ROLES, until
from observed_names import alerts
from prometheus_process import BINARY, Prometheus, hurried
from system import System, value_of

from app.rules.counts import TOTAL_SIZE_MS, Counts, WindowKey, encode_counts, encode_window_key
from app.topics import WINDOWS_CHANGELOG

if TYPE_CHECKING:
    from pathlib import Path

    from broker_site import Site

PARTITIONS = 4
ENVIRONMENT = {
    "EBS_HANDLER": "fault_handlers:planned",
    "EBS_HANDLERS": '{"stuck": "fault_handlers:stuck"}',
    "EBS_RETRY_TIERS_S": "60",
    "EBS_TASK_TIME_LIMIT_S": "1",
    # Of a kind of which nothing ever finished: the others must go on dying.
    "EBS_BREAKER_DEAD_SHARE": "1",
    "EBS_BREAKER_MIN_TASKS": "30",
    "EBS_BREAKER_WINDOW_S": "3600",
    # Looks every second.
    "EBS_STALL_TIMEOUT_S": "12",
}


class Watched:
    """A system, the Prometheus that watches it, and the alerts that were seen to fire."""

    def __init__(self, system: System, prometheus: Prometheus) -> None:
        self.system = system
        self.prometheus = prometheus
        self.seen: set[str] = set()

    async def sees(self, *names: str, timeout_s: float = 60) -> None:
        """Wait until all of these alerts have fired."""

        def have_fired() -> bool:
            self.seen |= set(self.prometheus.firing())
            return self.seen >= set(names)

        try:
            await until(have_fired, "alerts", timeout_s=timeout_s, fleet=self.system.fleet)
        except AssertionError as error:
            missing = sorted(set(names) - self.seen)
            raise AssertionError(f"{missing} did not fire; {sorted(self.seen)} did\n{error}") from None

    async def put_right(self, name: str) -> None:
        """Wait until an alert fires no more."""
        await until(lambda: name not in self.prometheus.firing(), f"{name} to end", fleet=self.system.fleet)


@pytest.mark.skipif(BINARY is None and not os.environ.get("CI"), reason="the program prometheus is not installed")
@pytest.mark.timeout(400)
async def test_each_alert_fires_for_its_reason(site: Site, tmp_path: Path) -> None:
    """Deaths, retries, stuck handlers, a wrong total; a pause; a killed worker; a frozen broker; no API."""
    async with System(site.broker, tmp_path, PARTITIONS, **ENVIRONMENT) as system:
        targets = {f"ebs-{role}": int(system.worker(role).env["EBS_WEB_PORT"]) for role in ROLES}
        with Prometheus(tmp_path, targets | {"ebs-api": system.api.port}) as prometheus:
            watched = Watched(system, prometheus)
            await until(lambda: prometheus.up_count() == 4, "all targets to be up", fleet=system.fleet)
            await all_is_well(watched)
            await tasks_go_wrong(watched)
            await processing_is_paused(watched)
            await processes_are_gone(watched)
    assert {alert["alert"] for alert in alerts()} == watched.seen


async def all_is_well(watched: Watched) -> None:
    """Work some objects off: nothing fires, now and for as long as the longest alert waits for."""
    system = watched.system
    for count in range(1, 17):
        await feed(system.broker.bootstrap, 10, partitions=PARTITIONS, rate_per_s=10)
        assert {} == watched.prometheus.firing(), count
    await until(lambda: value_of(system.pages()[0], "ebs_tasks_finished_total") == 480, "480 tasks", fleet=system.fleet)


async def tasks_go_wrong(watched: Watched) -> None:
    """Tasks that die, that are retried, that do not end, and a total that is not the sum of its states."""
    bootstrap = watched.system.broker.bootstrap
    await feed(bootstrap, 30, partitions=PARTITIONS, name="reject")
    await feed(bootstrap, 5, partitions=PARTITIONS, kind="stuck")
    await feed(bootstrap, 10, partitions=PARTITIONS, kind="broken", name="reject")
    wrong = encode_counts(Counts(tasks_created=3, queued_now=2))
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        key = encode_window_key(WindowKey(TOTAL_SIZE_MS, 0, "wrong"))
        await producer.send_and_wait(WINDOWS_CHANGELOG, wrong, key, partition=0)
    # Meanwhile: what dies at once is out of sight again after 10 s.
    failing = asyncio.create_task(feed(bootstrap, 900, partitions=PARTITIONS, name="poison", rate_per_s=40))
    await watched.sees(
        "EbsDeadRate", "EbsImbalance", "EbsHandlersAbandoned", "EbsRetriesPilingUp", "EbsKindPausedByBreaker"
    )
    await failing
    assert watched.system.api.client.post("/api/control/resume", json={"kind": "broken"}).is_success
    await watched.put_right("EbsKindPausedByBreaker")


async def processing_is_paused(watched: Watched) -> None:
    """Work piles up, nothing is done; when it goes on, tasks have waited for long."""
    system = watched.system
    client = system.api.client
    assert client.post("/api/control/pause", json={"reason": "test"}).is_success
    await feed(system.broker.bootstrap, 1_500, partitions=PARTITIONS, name="slow 0.3", rate_per_s=60)
    await watched.sees("EbsNoProgress", "EbsLagGrowing")
    assert client.post("/api/control/resume", json={}).is_success
    await watched.put_right("EbsNoProgress")
    await watched.sees("EbsQueueWait")


async def processes_are_gone(watched: Watched) -> None:
    """Kill the only statistics worker, freeze the broker, kill the API."""
    system = watched.system
    assert {"EbsWorkerGone", "EbsTargetDown", "EbsBrokerUnreachable", "EbsViewBehind", "EbsApiGone"}.isdisjoint(
        watched.seen
    )
    system.fleet.kill("statistics-1")
    await watched.sees("EbsWorkerGone", "EbsTargetDown")
    system.broker.pause()
    try:
        await watched.sees("EbsBrokerUnreachable", "EbsViewBehind")
    finally:
        system.broker.resume()
    system.api.kill()
    await watched.sees("EbsApiGone")


def test_hurry_changes_times_only() -> None:
    """Ranges, waits and thresholds in seconds; no name, no label."""
    text = "for: 10m\nexpr: rate(ebs_x_total[10m]) > 300 and deriv(ebs_x[15m:1m]) > 1000\n"
    assert "for: 10s\nexpr: rate(ebs_x_total[10s]) > 5 and deriv(ebs_x[15s:1s]) > 1000\n" == hurried(text)
