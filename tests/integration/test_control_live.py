"""Control over the whole way: HTTP, the topic, and workers that are killed, drained and slowed down."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from api_process import until
from broker_site import PARTITIONS, Site, running_site
from fleet import PATIENT, TAKEN_OVER, Fleet, running_fleet
from plain_names import CONTROL

from app.rules.worker_heartbeats import GONE_AFTER_MS, HEARTBEAT_EVERY_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api_process import ApiProcess
    from shared_broker import SharedBroker

FOR_LONG = {"EBS_PROCESS_TIME": "500", "EBS_CONCURRENCY": "2"}


class System:
    """A running API and what it says; processing workers are each test's own."""

    def __init__(self, api: ApiProcess, fleet: Fleet, bootstrap: str) -> None:
        self.client = api.client
        self.fleet = fleet
        self.bootstrap = bootstrap

    def rule(self, method: str, path: str, body: Any = None) -> None:
        """Give a command and see it accepted and read back."""
        answer = self.client.request(method, path, **({} if body is None else {"json": body}))
        assert (202, True) == (answer.status_code, answer.json()["seen"]), answer.text

    def submit(self, kind: str, tasks: int) -> str:
        """Submit an object and wait until it is split into tasks; returns its id."""
        object_id = self.client.post("/api/objects", json={"kind": kind, "tasks": tasks}).json()["id"]
        until(lambda: self.count(kind, "tasks_created") >= tasks, f"the tasks of {kind}")
        return object_id

    def count(self, kind: str, name: str) -> int:
        """Return one of a kind's figures."""
        return self.client.get("/api/statistics").json()["kinds"].get(kind, {}).get(name, 0)

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return the processing workers that live, by name."""
        answer = self.client.get("/api/workers?role=processing")
        return {one["worker"]: one for one in answer.json()["workers"]} if answer.is_success else {}

    def start(self, name: str, **env: str) -> None:
        """Start a processing worker and wait until it has told of all partitions, in two heartbeats."""
        self.fleet.start("processing", name, EBS_WORKER_ID=name, **env)

        def owning_since() -> int | None:
            worker = self.workers().get(name)
            return worker["at_ms"] if worker and len(worker["partitions"]) == PARTITIONS else None

        def has_beaten_again() -> bool:
            return (owning_since() or 0) > first

        first = until(owning_since, lambda: f"{name} to own all: {self.fleet.last_words()}")
        until(has_beaten_again, f"the next heartbeat of {name}")

    def started_at_ms(self, object_id: str) -> list[int]:
        """Return when the object's tasks started, as far as they have."""
        tasks = self.client.get(f"/api/objects/{object_id}/tasks?limit=1000").json()["tasks"]
        return sorted(task["started_at_ms"] for task in tasks if task["started_at_ms"])


@pytest.fixture(scope="module")
def shared_system(
    shared_broker: SharedBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, ApiProcess]]:
    """Return a broker, and an API, a distributor and a bookkeeper on it, for the tests of this module."""
    directory = tmp_path_factory.mktemp("system")
    with (
        running_site(shared_broker, directory) as site,
        running_fleet(site.broker.bootstrap, directory, PARTITIONS, **PATIENT) as fleet,
        site.api() as api,
    ):
        fleet.start("distribution")
        fleet.start("statistics")
        yield site, api


@pytest.fixture
def system(shared_system: tuple[Site, ApiProcess], tmp_path: Path) -> Iterator[System]:
    """Return the system, with processing workers of this test's own: none yet."""
    site, api = shared_system
    bootstrap = site.broker.bootstrap
    with running_fleet(bootstrap, tmp_path, PARTITIONS, **PATIENT, EBS_DRAIN_S="0") as fleet:
        yield System(api, fleet, bootstrap)
        fleet.stop(leaving=True)


@pytest.fixture
def kind() -> str:
    """Return a kind that no other test uses."""
    return f"kind-{uuid4().hex[:6]}"


def test_pause_outlives_all_workers(system, kind):
    """Paused, all workers killed, others started: still paused, until resumed; then all is worked off."""
    system.rule("POST", "/api/control/pause", {"reason": "test"})
    system.submit(kind, 30)
    first, second = f"{kind}-1", f"{kind}-2"
    system.start(first, **TAKEN_OVER)
    system.fleet.kill(first)
    system.start(second)
    assert 0 == system.count(kind, "tasks_started")
    system.rule("POST", "/api/control/resume")
    until(lambda: system.count(kind, "tasks_finished") == 30, "the tasks")


def test_no_task_starts_before_everything_in_force_is_known(system, kind):
    """A pause behind an open transaction cannot be read yet: a worker that starts now waits, and finds it paused."""
    with asyncio.Runner() as runner:
        producer = runner.run(begin_to_pause(system.bootstrap))
        system.submit(kind, 10)
        system.start(f"{kind}-1")
        assert 0 == system.count(kind, "tasks_started")
        runner.run(producer.commit_transaction())
        runner.run(producer.stop())
    until(lambda: system.client.get("/api/control").json()["paused"], "the pause")
    system.rule("PUT", "/api/control/concurrency", {"count": 9, "worker": f"{kind}-1"})
    assert 0 == system.count(kind, "tasks_started")
    system.rule("POST", "/api/control/resume")
    until(lambda: system.count(kind, "tasks_finished") == 10, "the tasks")


async def begin_to_pause(bootstrap: str) -> AIOKafkaProducer:
    """Write a pause without committing it; returns the producer that may."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=uuid4().hex)
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(CONTROL, b'{"type":"PAUSE"}', b"pause")
    return producer


def test_pause_of_a_kind_holds_up_no_other(system, kind):
    """Tasks of the other kind flow past the ones that wait."""
    other = f"{kind}-other"
    system.rule("POST", "/api/control/pause", {"kind": kind})
    system.start(f"{kind}-1")
    system.submit(kind, 20)
    system.submit(other, 20)
    until(lambda: system.count(other, "tasks_finished") == 20, "the other kind")
    assert 0 == system.count(kind, "tasks_started")
    system.rule("POST", "/api/control/resume", {"kind": kind})
    until(lambda: system.count(kind, "tasks_finished") == 20, "the kind")


def test_cancelled_object_starts_nothing_more(system, kind):
    """Two tasks that run for minutes and one that waits: all cancelled at once, none started a second later."""
    system.start(f"{kind}-1", **FOR_LONG)
    object_id = system.submit(kind, 3)
    until(lambda: system.count(kind, "tasks_started") == 2, "two tasks to run")
    answer = system.client.delete(f"/api/objects/{object_id}?reason=test")
    cancelled_at_ms = time.time_ns() // 1_000_000
    assert 202 == answer.status_code
    until(lambda: system.client.get(f"/api/objects/{object_id}").json()["state"] == "CANCELLED", "the end")
    started = system.started_at_ms(object_id)
    assert 2 == len(started)
    assert started[-1] < cancelled_at_ms + 1_000
    assert 409 == system.client.delete(f"/api/objects/{object_id}").status_code


def test_cancel_by_filter_ends_what_exists_and_nothing_later(system, kind):
    """All tasks of the kind that exist are cancelled, running or not; those of a later object run."""
    system.start(f"{kind}-1", **FOR_LONG)
    objects = [system.submit(kind, 2 * number) for number in (1, 2)]
    until(lambda: system.count(kind, "tasks_created") == 6, "all tasks")
    until(lambda: system.count(kind, "tasks_started") == 2, "two tasks to run")
    system.rule("POST", "/api/control/cancel", {"kind": kind})
    for object_id in objects:
        until(
            lambda path=f"/api/objects/{object_id}": system.client.get(path).json()["state"] == "CANCELLED", "the end"
        )
    system.submit(kind, 2)
    until(lambda: system.count(kind, "tasks_started") == 4, "the later tasks to run")


def test_rate_is_kept(system, kind):
    """Ten a second of a kind, however many wait; without the limit the rest goes at once."""
    system.start(f"{kind}-1")
    system.rule("PUT", f"/api/control/rate/{kind}", {"per_s": 10})
    object_id = system.submit(kind, 100)
    until(lambda: system.count(kind, "tasks_started") >= 30, "thirty tasks")
    system.rule("DELETE", f"/api/control/rate/{kind}")
    until(lambda: system.count(kind, "tasks_finished") == 100, "the rest")
    started = system.started_at_ms(object_id)
    # Two seconds each, less a token that was saved up, and what a busy machine may hold up the first of them.
    assert [] == [
        began_ms for began_ms, later_ms in zip(started, started[20:30], strict=False) if later_ms - began_ms < 1_400
    ]


def test_concurrency_changes_while_it_works(system, kind):
    """From two tasks at once to eight, without a restart."""
    system.start(f"{kind}-1", **FOR_LONG)
    system.submit(kind, 20)
    until(lambda: system.workers()[f"{kind}-1"]["in_flight"] == 2, "two tasks at once")
    system.rule("PUT", "/api/control/concurrency", {"count": 8, "worker": f"{kind}-1"})
    until(lambda: system.workers()[f"{kind}-1"]["in_flight"] == 8, "eight tasks at once")
    assert 8 == len(system.workers()[f"{kind}-1"]["running"])


def test_drained_worker_starts_nothing_in_its_next_life_either(system, kind):
    """It says that it drains and holds no partitions, also after a crash; undone, it works."""
    name = f"{kind}-1"

    def has_given_up_all() -> bool:
        worker = system.workers().get(name)
        return worker is not None and worker["draining"] and not worker["partitions"]

    system.start(name, **TAKEN_OVER)
    system.rule("POST", f"/api/control/drain/{name}")
    until(has_given_up_all, "the drained worker to give up its partitions")
    system.fleet.kill(name)
    until(lambda: name not in system.workers(), "the killed worker to be gone")
    system.fleet.start("processing", name, EBS_WORKER_ID=name)
    until(has_given_up_all, "the next life to give up its partitions")
    system.submit(kind, 10)
    assert 0 == system.count(kind, "tasks_started")
    system.rule("DELETE", f"/api/control/drain/{name}")
    until(lambda: system.count(kind, "tasks_finished") == 10, "the tasks")
    until(lambda: not system.workers()[name]["draining"], "the heartbeat that says so")


def test_worker_is_known_until_it_is_gone(system, kind):
    """One that stops as it should is gone at once, one that is killed within seconds."""
    names = [f"{kind}-1", f"{kind}-2"]
    for name in names:
        system.fleet.start("processing", name, EBS_WORKER_ID=name)
    until(lambda: set(names) <= {name for name, one in system.workers().items() if one["partitions"]}, "both")
    asyncio.run(system.fleet.terminate(names[0]))
    # Before its silence could be noticed.
    soon_s = GONE_AFTER_MS / 1_000 - 1.5 * HEARTBEAT_EVERY_S
    until(lambda: names[0] not in system.workers(), "the stopped worker to be gone", soon_s)
    heard_at_ms = system.workers()[names[1]]["at_ms"]
    system.fleet.kill(names[1])
    until(lambda: names[1] not in system.workers(), "the killed worker to be gone")
    assert time.time_ns() // 1_000_000 - heard_at_ms > GONE_AFTER_MS
