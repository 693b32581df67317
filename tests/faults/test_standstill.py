"""A worker that hangs ends itself and loses nothing; one that has nothing to do, or must wait, is left alone."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaProducer
from api_process import ApiProcess
from checker import differences
from feed import feed
from fleet import PATIENT, ROLES, TAKEN_OVER, Fleet, owned, said, until
from follower import Follower
from plain_names import CONTROL, OBJECTS
from worker_pages import read_page

from app.streaming.watchdog import EXIT_STOOD_STILL

if TYPE_CHECKING:
    from pathlib import Path

    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
LIMIT_S = 6.0
LIMIT = {**PATIENT, "EBS_STALL_TIMEOUT_S": str(LIMIT_S)}
LONG_S = 2 * LIMIT_S


async def all_ready(fleet: Fleet) -> None:
    """Wait until every worker's `/readyz` says so."""
    await until(
        lambda: all(read_page(worker, "/readyz").status == 200 for worker in fleet.workers.values()),
        "all workers to be ready",
        fleet=fleet,
    )


def ended_by_themselves(fleet: Fleet) -> list[str]:
    """Return the workers that stood still, as their logs say."""
    return [name for name, worker in fleet.workers.items() if f"(exit code {EXIT_STOOD_STILL})" in worker.log()]


@pytest.mark.parametrize("part", ["fetching", "loop", "consumer", "commit"])
async def test_worker_that_hangs_ends_and_another_one_takes_over(
    broker: EmbeddedKafka, fleet: Fleet, part: str
) -> None:
    """With a reason and stacks in its log; nothing is lost or doubled."""
    marker = fleet.directory / "hang"
    for role in ROLES:
        fleet.start(role, **PATIENT)
    sabotage = {"STALLED_ROLE": "distribution", "STALLED_PART": part, "STALLED_MARKER": str(marker)}
    hanging = fleet.start("distribution", "hanging", module="stalled", **sabotage, **LIMIT | TAKEN_OVER)
    await all_ready(fleet)
    await until(lambda: "works partitions" in read_page(hanging, "/readyz?verbose").text, "its partitions", fleet=fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, 200, partitions=PARTITIONS)
        await until(lambda: follower.has_finished_objects(200), "200 objects", fleet=fleet)
        marker.touch()
        if part != "commit":
            await until(lambda: not marker.exists(), "the worker to hang", fleet=fleet)
        accepted += await feed(broker.bootstrap, 400, partitions=PARTITIONS, rate_per_s=200)  # a fetch may be out
        await until(lambda: hanging.exit_code is not None, "the worker to end", fleet=fleet)
        assert EXIT_STOOD_STILL == hanging.exit_code
        del fleet.workers["hanging"]
        await until(lambda: follower.has_finished_objects(600), "600 objects", fleet=fleet)
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, found
    assert "the worker ends (exit code 72): " in hanging.log()
    assert "Current thread" in hanging.log()  # faulthandler's
    assert [None] * 3 == [worker.exit_code for worker in fleet.workers.values()]


async def test_idle_workers_and_waiting_tasks_are_left_alone(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Nothing to do, slow handlers that fill the pool, retries that wait, a pause with lag: none of it is standing."""
    slow = {"EBS_PROJECT": "fault_handlers", "EBS_CONCURRENCY": "2"}
    fleet.start("distribution", **LIMIT)
    fleet.start("statistics", **LIMIT)
    fleet.start("processing", **LIMIT, **slow)
    await all_ready(fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        await asyncio.sleep(LONG_S)
        await feed(broker.bootstrap, 1, partitions=PARTITIONS, name="poison")
        await feed(broker.bootstrap, 2, partitions=PARTITIONS, name=f"slow {LONG_S}")
        await until(lambda: follower.has_finished_tasks(4), "the slow tasks", fleet=fleet)
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            pause = json.dumps({"type": "PAUSE", "at_ms": 0, "reason": "test"}).encode()
            await producer.send_and_wait(CONTROL, pause, b"pause", partition=0)
        await feed(broker.bootstrap, 50, partitions=PARTITIONS)
        await asyncio.sleep(LONG_S)
    assert [None] * 3 == [worker.exit_code for worker in fleet.workers.values()]
    assert [200] * 3 == [read_page(worker, "/livez").status for worker in fleet.workers.values()]


async def test_transaction_of_somebody_else_is_waited_for(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """What lies behind it is hidden, so nobody stands still before it."""
    worker = fleet.start("distribution", **LIMIT)
    await all_ready(fleet)
    outsider = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap, transactional_id="outsider", transaction_timeout_ms=600_000
    )
    async with outsider:
        await outsider.begin_transaction()
        for number in range(PARTITIONS):
            await outsider.send_and_wait(OBJECTS, b"no object yet", b"key", partition=number)
        await feed(broker.bootstrap, 50, partitions=PARTITIONS)
        await asyncio.sleep(LONG_S)
        assert (None, 200) == (worker.exit_code, read_page(worker, "/livez").status)
        await outsider.abort_transaction()


async def test_long_rebalance_is_waited_for(fleet: Fleet) -> None:
    """A member that does not answer holds up the group for its session: nobody is ended, `/readyz` says why."""
    session = {**LIMIT, "EBS_SESSION_TIMEOUT_S": "25"}
    first = fleet.start("distribution", **session)
    for number in (2, 3):
        fleet.start("distribution", f"distribution-{number}", **session)
    await all_ready(fleet)
    await until(lambda: all(map(owned, fleet.workers.values())), "all to own something", fleet=fleet)
    fleet.freeze("distribution-2")
    # One that leaves rather than one that comes: what is frozen is forgotten before a new one is there, perhaps.
    fleet.workers["distribution-3"].process.terminate()
    await until(lambda: "a rebalance goes on" in read_page(first, "/readyz").text, "the rebalance", fleet=fleet)
    rebalanced_s = await until(lambda: read_page(first, "/readyz").status == 200, "its end", fleet=fleet)
    assert rebalanced_s > LIMIT_S
    assert (None, 200) == (first.exit_code, read_page(first, "/livez").status)
    assert list(range(PARTITIONS)) == owned(first)


async def test_broker_and_processes_that_are_stopped_for_long_are_no_standstill(
    broker: EmbeddedKafka, fleet: Fleet
) -> None:
    """SIGSTOP of the broker, then of every worker, for twice the limit: none ends for standing still."""
    for role in ROLES:
        fleet.start(role, **LIMIT)
    await all_ready(fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, 100, partitions=PARTITIONS)
        await until(lambda: follower.has_finished_objects(100), "100 objects", fleet=fleet)
        broker.pause()
        await until(
            lambda: all("broker does not answer" in read_page(one, "/readyz").text for one in fleet.workers.values()),
            "all workers to notice",
            fleet=fleet,
        )
        await asyncio.sleep(LONG_S)
        assert [200] * 3 == [read_page(worker, "/livez").status for worker in fleet.workers.values()]
        broker.resume()
        await all_ready(fleet)
        for name in fleet.workers:
            fleet.freeze(name)
        accepted += await feed(broker.bootstrap, 100, partitions=PARTITIONS)
        await asyncio.sleep(LONG_S)
        for name in fleet.workers:
            fleet.thaw(name)
        await until(lambda: follower.has_finished_objects(200), "200 objects", fleet=fleet, reviving=True)
    assert [] == ended_by_themselves(fleet)
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, found


async def test_api_whose_view_hangs_ends_and_one_that_waits_does_not(broker: EmbeddedKafka, tmp_path: Path) -> None:
    """A frozen broker is waited for; a frozen fetch loop ends the process, with exit code 72, once there is work."""
    marker = tmp_path / "hang"
    environment = {
        "EBS_BROKER": broker.bootstrap,
        "EBS_PARTITIONS": str(PARTITIONS),
        "EBS_DATA_DIR": str(tmp_path / "api"),
        "STALLED_MARKER": str(marker),
    }
    with ApiProcess(tmp_path, module="stalled_api", **LIMIT, **environment) as api:
        await feed(broker.bootstrap, 10, partitions=PARTITIONS)
        broker.pause()
        await asyncio.sleep(LONG_S)
        assert 200 == api.status("/livez")
        broker.resume()
        await until(lambda: api.status("/readyz") == 200, "the API to be ready again")
        marker.touch()
        await asyncio.sleep(LONG_S)
        assert (None, 200) == (api.process.poll(), api.status("/livez"))
        await feed(broker.bootstrap, 10, partitions=PARTITIONS)
        await until(lambda: api.process.poll() is not None, "the API to end")
        assert EXIT_STOOD_STILL == api.process.poll()
        assert "objects-" in api.log


async def test_readiness_tells_what_is_missing(fleet: Fleet) -> None:
    """Before the broker, joined with a share, and without any partition: each in the body, never cached."""
    for number in range(1, PARTITIONS + 2):
        fleet.start("distribution", f"distribution-{number}")
    await all_ready(fleet)
    await until(lambda: said(fleet.workers.values(), "owns partitions"), "all to own something", fleet=fleet)
    pages = [read_page(worker, "/readyz?verbose") for worker in fleet.workers.values()]
    assert ["no-store"] * 5 == [page.headers["Cache-Control"] for page in pages]
    await until(
        lambda: (
            sum("owns no partition" in read_page(one, "/readyz?verbose").text for one in fleet.workers.values()) == 1
            and all(read_page(one, "/readyz").status == 200 for one in fleet.workers.values())
        ),
        "four with a partition and one without, all ready",
        fleet=fleet,
    )
