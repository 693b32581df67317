"""Handlers that end their workers: the culprit is found and dies, whoever ran beside it loses no attempt."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from checker import differences, read_all, read_topics
from deadly_handlers import DEADLY, KINDS
from feed import feed
from fleet import PATIENT, said, until
from follower import Follower
from plain_names import TASK_EVENTS

from app.streaming.watchdog import EXIT_STOOD_STILL

if TYPE_CHECKING:
    from fleet import Fleet

    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
GOOD = 20
SOON = {
    "EBS_DRAIN_S": "1",
    "EBS_SESSION_TIMEOUT_S": "6",
    "EBS_TRANSACTION_TIMEOUT_S": "8",
    "EBS_STALL_TIMEOUT_S": "4",
    "EBS_TASK_TIME_LIMIT_S": "10",
}
"""A worker that is stopped is killed after four times the stall timeout."""


async def start(fleet: Fleet, workers: int = 2) -> None:
    """Start the workers."""
    fleet.start("distribution", **PATIENT)
    fleet.start("statistics", **PATIENT)
    for number in range(1, workers + 1):
        runs = str(fleet.directory / "runs")
        fleet.start("processing", f"processing-{number}", FAULT_HANDLER_RUNS=runs, **SOON, **DEADLY)
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)


async def events_of(broker: EmbeddedKafka) -> list[dict[str, Any]]:
    """Return all events of tasks."""
    return [json.loads(record.value) async for record in read_all(broker.bootstrap, [TASK_EVENTS])]


@pytest.mark.parametrize(
    ("kind", "ending", "cause"),
    [
        ("thread", "segfault", b"ended with exit code -11"),
        ("inline", "exit", b"ended with exit code 7"),
        ("thread", "stop", b"ended with exit code -9"),
        ("coroutine", "cancel all", b"cancelled or stopped something in the event loop"),
    ],
)
async def test_culprit_is_found_and_the_others_lose_nothing(
    broker: EmbeddedKafka, fleet: Fleet, kind: str, ending: str, cause: bytes
) -> None:
    """Two workers, each of which dies with it while others run; then it dies alone, with the cause in its letter."""
    await start(fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        good = await feed(broker.bootstrap, GOOD, partitions=PARTITIONS, kind=kind, name="good")
        (bad,) = await feed(broker.bootstrap, 1, partitions=PARTITIONS, kind=kind, name=ending)
        good += await feed(broker.bootstrap, GOOD, partitions=PARTITIONS, kind=kind, name="good")
        await until(lambda: follower.has_ended_tasks(3 * (2 * GOOD + 1)), "the end", fleet=fleet, reviving=True)
        await until(lambda: follower.has_finished_objects(2 * GOOD), "the good", fleet=fleet, reviving=True)
    found = await differences(broker.bootstrap, accepted=[*good, bad])
    assert [] == found, found
    events = await events_of(broker)
    assert {(f"{bad}-{number}", 1) for number in range(3)} == {
        (event["task_id"], event["attempt"]) for event in events if event["type"] == "TASK_DEAD"
    }
    failed = {event["task_id"] for event in events if event["type"] == "TASK_FAILED"}
    assert {f"{bad}-{number}" for number in range(3)} == failed
    letters = (await read_topics(broker.bootstrap)).dead_letters
    for letter in letters:
        headers = dict(letter.headers)
        assert b"app.errors.HandlerCrashed" == headers["kafka_dlt-exception-fqcn"]
        assert cause in headers["kafka_dlt-exception-message"]
    runs = Counter(line.split()[0] for line in (fleet.directory / "runs").read_text().splitlines())
    assert max(runs[f"{bad}-{number}"] for number in range(3)) <= 5


async def test_children_that_handlers_leave_behind_do_their_worker_no_harm(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Terminated or living on: their tasks finish; the worker stops when it is asked to, though a thread hangs."""
    await start(fleet, workers=1)
    ids = []
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        for kind in KINDS:
            for name in ("terminate a child", "leave a child", "leave a thread"):
                ids += await feed(broker.bootstrap, 1, partitions=PARTITIONS, kind=kind, name=name)
        await until(lambda: follower.has_finished_objects(len(ids)), "all objects", fleet=fleet)
    found = await differences(broker.bootstrap, accepted=ids)
    assert [] == found, found
    worker = fleet.workers["processing-1"]
    runs = Counter(line.split()[0] for line in (fleet.directory / "runs").read_text().splitlines())
    assert ({1}, None) == (set(runs.values()), worker.exit_code)
    await fleet.terminate("processing-1", expected_code=EXIT_STOOD_STILL)
    assert "its stop has not ended after 16 s" in worker.log()
    with socket.create_server(("127.0.0.1", int(worker.env["EBS_WEB_PORT"]))):
        os.killpg(worker.process.pid, signal.SIGKILL)  # its children, who lived until now, did not have its port
