"""Every alert fires from what real processes expose when a real thing goes wrong, and none while all is well.

In CI the Prometheus binary is there (`.ci/install-tools`), and nothing is skipped; elsewhere the test is, without it.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaProducer
from feed import feed, feeding
from fleet import ROLES, until
from observed_names import alerts
from plain_names import WINDOWS_CHANGELOG
from prometheus_process import BINARY, Prometheus, hurried
from system import System, value_of

from app.rules.counts import TOTAL_SIZE_MS, Counts, WindowKey, encode_counts, encode_window_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker_site import Site

PARTITIONS = 4
LONGEST_WAIT_S = 16
"""Somewhat more than the longest `for` of an alert, in a hurry."""
ENVIRONMENT = {
    "EBS_PROJECT": "fault_handlers",
    # So long that those who wait become more and more, however long it takes until that is noticed.
    "EBS_BACKOFF_S": "600",
    # Short for the stuck ones, long for all others on a slow machine.
    "EBS_TASK_TIME_LIMIT_S": "10",
    # Of a kind of which nothing ever finished: the others must go on dying.
    "EBS_BREAKER_DEAD_SHARE": "1",
    "EBS_BREAKER_MIN_TASKS": "30",
    "EBS_BREAKER_WINDOW_S": "3600",
    # Looks every few seconds.
    "EBS_STALL_TIMEOUT_S": "30",
}


class Watched:
    """A system, the Prometheus that watches it, and the alerts that were seen to fire."""

    def __init__(self, system: System, prometheus: Prometheus) -> None:
        self.system = system
        self.prometheus = prometheus
        self.seen: set[str] = set()

    async def sees(self, *names: str) -> None:
        """Wait until all of these alerts have fired."""

        def have_fired() -> bool:
            self.seen |= set(self.prometheus.firing())
            return self.seen >= set(names)

        try:
            await until(have_fired, "alerts", fleet=self.system.fleet)
        except AssertionError as error:
            missing = sorted(set(names) - self.seen)
            raise AssertionError(f"{missing} did not fire; {sorted(self.seen)} did\n{error}") from None

    async def put_right(self, *names: str) -> None:
        """Wait until none of these alerts fires any more."""
        await until(
            lambda: self.prometheus.firing().keys().isdisjoint(names), f"{names} to end", fleet=self.system.fleet
        )

    @asynccontextmanager
    async def causing(self, *names: str) -> AsyncIterator[None]:
        """See that these alerts do not fire before the block, and fire in consequence of it."""
        await self.put_right(*names)
        self.seen -= set(names)
        yield
        await self.sees(*names)

    async def sees_nothing_for(self, wanted_s: float) -> None:
        """Wait until nothing has fired for so long; where the machine stands still, a target may be down for once."""
        quiet_since_s = time.monotonic()
        fired: set[str] = set()

        def is_quiet() -> bool:
            nonlocal quiet_since_s
            if firing := set(self.prometheus.firing()):
                fired.update(firing)
                quiet_since_s = time.monotonic()
            return time.monotonic() - quiet_since_s >= wanted_s

        try:
            await until(is_quiet, f"{wanted_s} s without an alert", fleet=self.system.fleet)
        except AssertionError as error:
            raise AssertionError(f"{sorted(fired)} fired all the time\n{error}") from None


@pytest.mark.skipif(BINARY is None, reason="the program prometheus is not installed")
async def test_each_alert_fires_for_its_reason(site: Site, tmp_path: Path) -> None:
    """Deaths, retries, stuck handlers, a wrong total; a pause, few places; a killed worker, a frozen broker; no API."""
    async with System(site.broker, tmp_path, PARTITIONS, **ENVIRONMENT) as system:
        targets = {f"ebs-{role}": int(system.worker(role).env["EBS_WEB_PORT"]) for role in ROLES}
        with Prometheus(tmp_path, targets | {"ebs-api": system.api.port}) as prometheus:
            watched = Watched(system, prometheus)
            await until(lambda: prometheus.up_count() == 4, "all targets to be up", fleet=system.fleet)
            await all_is_well(watched)
            await due_tasks_find_no_place(watched)
            await tasks_go_wrong(watched)
            await too_little_starts(watched)
            await processes_are_gone(watched)
    assert {alert["alert"] for alert in alerts()} == watched.seen


async def all_is_well(watched: Watched) -> None:
    """Work some objects off: nothing fires, now and for as long as the longest alert waits for."""
    system = watched.system
    async with feeding(system.broker.bootstrap, partitions=PARTITIONS, rate_per_s=10) as accepted:
        await until(lambda: len(accepted) >= 10, "the first objects")
        await watched.sees_nothing_for(LONGEST_WAIT_S)
    await until(
        lambda: value_of(system.pages()[0], "ebs_tasks_finished_total") == 3 * len(accepted),
        "all tasks",
        fleet=system.fleet,
    )


async def due_tasks_find_no_place(watched: Watched) -> None:
    """One place, and delayed tasks that take 5 s each: the others have been due for long."""
    client = watched.system.api.client
    assert client.put("/api/control/concurrency", json={"count": 1}).is_success
    bootstrap = watched.system.broker.bootstrap
    await feed(bootstrap, 20, partitions=PARTITIONS, name="slow 5", fields=lambda _number: {"delay_s": 1})
    await watched.sees("EbsWaitingOverdue")
    assert client.delete("/api/control/concurrency").is_success


async def tasks_go_wrong(watched: Watched) -> None:
    """Tasks that die, that are retried, that do not end, and a total that is not the sum of its states."""
    bootstrap = watched.system.broker.bootstrap
    await feed(bootstrap, 5, partitions=PARTITIONS, kind="stuck")
    await feed(bootstrap, 10, partitions=PARTITIONS, kind="broken", name="reject")
    wrong = encode_counts(Counts(tasks_created=3, queued_now=2))
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        key = encode_window_key(WindowKey(TOTAL_SIZE_MS, 0, "wrong"))
        await producer.send_and_wait(WINDOWS_CHANGELOG, wrong, key, partition=0)
    rising = feeding(bootstrap, partitions=PARTITIONS, name="poison", rate_per_s=10)
    dying = feeding(bootstrap, partitions=PARTITIONS, name="reject", rate_per_s=1)
    async with rising, dying:
        await watched.sees(
            "EbsDeadRate", "EbsImbalance", "EbsHandlersAbandoned", "EbsWaitingPilingUp", "EbsKindPausedByBreaker"
        )
    assert watched.system.api.client.post("/api/control/resume", json={"kind": "broken"}).is_success
    await watched.put_right("EbsKindPausedByBreaker")


async def too_little_starts(watched: Watched) -> None:
    """Pause; then let tasks take so long that the places are too few: they pile up in the log and wait."""
    client = watched.system.api.client
    assert client.post("/api/control/pause", json={"reason": "test"}).is_success
    async with feeding(watched.system.broker.bootstrap, partitions=PARTITIONS, name="slow 3", rate_per_s=20):
        await watched.sees("EbsNoProgress")
        assert client.post("/api/control/resume", json={}).is_success
        await watched.put_right("EbsNoProgress")
        await watched.sees("EbsLagGrowing", "EbsQueueWait")


async def processes_are_gone(watched: Watched) -> None:
    """Kill the only statistics worker, freeze the broker, kill the API."""
    system = watched.system
    async with watched.causing("EbsWorkerGone", "EbsTargetDown"):
        system.fleet.kill("statistics-1")
    try:
        async with watched.causing("EbsBrokerUnreachable", "EbsViewBehind"):
            system.broker.pause()
    finally:
        system.broker.resume()
    async with watched.causing("EbsApiGone"):
        system.api.kill()


def test_hurry_changes_times_only() -> None:
    """Ranges, waits and thresholds in seconds; no name, no label."""
    text = "for: 10m\nexpr: rate(ebs_x_total[10m]) > 300 and deriv(ebs_x[15m:1m]) > 1000\n"
    assert "for: 10s\nexpr: rate(ebs_x_total[10s]) > 5 and deriv(ebs_x[15s:1s]) > 100\n" == hurried(text)
