"""What real processes expose: everything that alerts and dashboard go by, exact through restarts, and no more."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import httpx
from feed import feed
from fleet import ROLES, TAKEN_OVER, until
from observed_names import metric_names
from plain_names import OBJECTS, SCHEDULES
from system import System, samples_of, value_of
from worker_pages import read_page

if TYPE_CHECKING:
    from pathlib import Path

    from broker_site import Site
    from fleet import Worker

PARTITIONS = 4
_ID = re.compile(r"[0-9a-f]{12,}")


async def test_alerts_and_dashboard_use_metrics_that_exist(site: Site, tmp_path: Path) -> None:
    """Each name is exposed by API or workers, and moves with the work; none is told by both, no label holds an id."""
    planned = {"EBS_PROJECT": "fault_handlers", "EBS_BACKOFF_S": "600"}
    async with System(site.broker, tmp_path, PARTITIONS, **planned) as system:
        before = [value_of(page, "ebs_last_progress_timestamp_seconds") or 0 for page in system.pages()[1:]]
        await feed(site.broker.bootstrap, 100, partitions=PARTITIONS)
        await until(lambda: lag_is_gone(system), "100 objects and no lag", fleet=system.fleet)
        for role, page, began in zip(ROLES, system.pages()[1:], before, strict=True):
            assert (value_of(page, "ebs_last_progress_timestamp_seconds") or 0) > began, role
            assert 0 < (value_of(page, "ebs_step_duration_seconds_count") or 0), role
            assert 100 <= (value_of(page, "ebs_step_records_sum") or 0), role
            committed = value_of(page, "ebs_transactions_committed_total") or 0
            assert (value_of(page, "ebs_step_records_count") or 0) <= committed, role
        await feed(site.broker.bootstrap, 2, partitions=PARTITIONS, name="poison")
        await until(
            lambda: value_of(system.pages()[2], "ebs_tasks_waiting", reason="retry") == 6, "retries", fleet=system.fleet
        )
        pages = system.pages()
    exposed = [{name for name, _ in samples_of(page)} for page in pages]
    assert [] == sorted(metric_names() - set.union(*exposed))
    shared = {name for name in exposed[0] & set.union(*exposed[1:]) if name.startswith("ebs_")}
    assert {"ebs_build_info"} == shared
    labels = {value for page in pages for _, pairs in samples_of(page) for _, value in pairs}
    assert [] == sorted(value for value in labels if _ID.search(value))


async def test_counters_are_exact_and_never_go_back(site: Site, tmp_path: Path) -> None:
    """A statistics worker and the API are killed under load: what is told only grows, and is exact in the end."""
    told: list[dict[object, float]] = []

    async with System(site.broker, tmp_path, PARTITIONS, **TAKEN_OVER) as system:

        def look() -> dict[object, float]:
            """Read the counters of the API, those that are there."""
            try:
                page = system.api.client.get("/metrics").text
            except httpx.TransportError:
                return {}
            samples = {key: value for key, value in samples_of(page).items() if key[0].startswith("ebs_")}
            found = {key: value for key, value in samples.items() if key[0].endswith(("_total", "_bucket"))}
            if found:
                told.append(dict(found))
            return dict(found)

        def finished(count: int) -> bool:
            return look().get(("ebs_tasks_finished_total", ()), 0) >= count

        await feed(site.broker.bootstrap, 1_000, partitions=PARTITIONS)
        await until(lambda: finished(300), "some tasks", fleet=system.fleet, reviving=True)
        system.fleet.kill("statistics-1")
        system.fleet.revive()
        await feed(site.broker.bootstrap, 500, partitions=PARTITIONS)
        await until(lambda: finished(2_000), "more tasks", fleet=system.fleet, reviving=True)
        system.api.kill()
        system.api.client.close()
        system.start_api()
        await until(lambda: finished(4_500), "all tasks", fleet=system.fleet, reviving=True)
        await until(
            lambda: look().get(("ebs_objects_finished_total", ()), 0) >= 1_500,
            "all objects",
            fleet=system.fleet,
            reviving=True,
        )
        page = system.api.client.get("/metrics").text
    for before, after in pairwise(told):
        assert [] == [key for key in before if after[key] < before[key]]
    exact = {"objects_created": 1_500, "objects_finished": 1_500, "tasks_created": 4_500, "tasks_finished": 4_500}
    assert exact == {name: value_of(page, f"ebs_{name}_total") for name in exact}
    assert (0, 4_500) == (value_of(page, "ebs_audit_imbalance"), value_of(page, "ebs_task_duration_seconds_count"))
    assert 4_500 == value_of(page, "ebs_tasks", state="finished")


async def test_partitions_have_one_owner_in_the_metrics(site: Site, tmp_path: Path) -> None:
    """After a rebalance each partition's series are told once: by its new owner, and no more by its old one."""
    async with System(site.broker, tmp_path, PARTITIONS) as system:
        first = system.worker("distribution")
        second = system.fleet.start("distribution", "distribution-2", **TAKEN_OVER)
        workers = (first, second)

        def told() -> Counter[tuple[str, str, str]]:
            """Count who tells of which partition's lag and gap."""
            series = [key for worker in workers for key in samples_of(read_page(worker, "/metrics").text)]
            named = [(name, dict(pairs)) for name, pairs in series if name in {"ebs_consumer_lag", "ebs_commit_gap"}]
            return Counter((name, labels["topic"], labels["partition"]) for name, labels in named)

        names, topics = ("ebs_consumer_lag", "ebs_commit_gap"), (OBJECTS, SCHEDULES)
        everything = {(name, topic, str(n)): 1 for name in names for topic in topics for n in range(PARTITIONS)}
        await until(lambda: told() == everything and owned(second) == 2, "two owners of two each", fleet=system.fleet)
        system.fleet.kill("distribution-2")
        workers = (first,)
        await until(lambda: told() == everything, "one owner of all", fleet=system.fleet)
        await until(lambda: [4, 4] == [owned(first), ready(first)], "all to be ready", fleet=system.fleet)


def lag_is_gone(system: System) -> bool:
    """Return whether 300 tasks are finished and no worker has any lag."""
    pages = system.pages()
    lags = [value for page in pages for (name, _), value in samples_of(page).items() if name == "ebs_consumer_lag"]
    return value_of(pages[0], "ebs_tasks_finished_total") == 300 and not any(lags)


def owned(worker: Worker) -> float | None:
    """Return how many partitions a worker says it has."""
    return value_of(read_page(worker, "/metrics").text, "ebs_partitions_owned")


def ready(worker: Worker) -> float | None:
    """Return how many of them it works."""
    return value_of(read_page(worker, "/metrics").text, "ebs_partitions_ready")
