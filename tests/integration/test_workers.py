"""Workers as processes on a real broker: what they say, serve, refuse, and do with what they cannot read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from api_process import PATIENCE_S
from checker import differences, read_all, read_topics
from engine_bench import request
from feed import feed
from fleet import PATIENT, ROLES, TAKEN_OVER, Fleet, running_fleet, said, until
from follower import Follower
from plain_names import DEAD_LETTERS, OBJECTS, TASK_EVENTS, TASK_REQUESTS
from worker_pages import read_json, read_page

from app.events import TaskFinished, decode_task_event, decode_task_request, encode
from app.kafka.cluster import Cluster
from app.settings.settings import load
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics
from ebs.local.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTITIONS = 4


@pytest.fixture
def broker(kafka: EmbeddedKafka) -> EmbeddedKafka:
    """Return a running broker without topics."""
    return kafka


@pytest.fixture
def fleet(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Fleet]:
    """Return a fleet of workers on that broker."""
    with running_fleet(broker.bootstrap, tmp_path, PARTITIONS, **PATIENT) as workers:
        yield workers


async def all_ready(fleet: Fleet) -> None:
    """Wait until every worker has its partitions."""
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)


async def test_workers_wait_for_their_broker_and_make_the_topics(tmp_path: Path) -> None:
    """Workers that start before the broker say so, and work as soon as it is there."""
    kafka = EmbeddedKafka(tmp_path, port=0)
    with running_fleet(kafka.bootstrap, tmp_path, PARTITIONS, **PATIENT) as fleet:
        fleet.start_all()
        await until(
            lambda: said(fleet.workers.values(), "waiting for the Kafka broker"), "all workers to wait", fleet=fleet
        )
        try:
            await kafka.start()
            await all_ready(fleet)
            async with Follower(kafka.bootstrap, PARTITIONS) as follower:
                accepted = await feed(kafka.bootstrap, 100, partitions=PARTITIONS)
                await until(lambda: follower.has_finished_objects(100), "100 objects", fleet=fleet)
            assert [] == await differences(kafka.bootstrap, accepted=accepted)
        finally:
            await kafka.stop()


async def test_records_that_cannot_be_read_go_to_the_dead_letters(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Each bad record ends in `dead-letters` with its bytes and origin; the good ones beside it are worked off."""
    await ensure_topics(Cluster(broker.bootstrap), catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS)))
    fleet.start_all()
    await all_ready(fleet)
    bad = {
        OBJECTS: [b"", b"no json", b"[]", b'{"type":"OBJECT_CREATED","object_id":"x"}', b"\xff\xfe", b'{"type":"?"}'],
        TASK_REQUESTS: [b"no json", b'{"type":"TASK_CREATED"}'],
        TASK_EVENTS: [b"no json", b'{"type":"TASK_FINISHED","at_ms":-1}'],
    }
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        for topic, values in bad.items():
            for value in values:
                await producer.send_and_wait(topic, value, b"key", partition=1, headers=[("trace", b"42")])
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        await feed(broker.bootstrap, 50, partitions=PARTITIONS)
        await until(lambda: follower.has_finished_objects(50), "50 objects", fleet=fleet)
    # `objects` has two readers; only one of them buries what neither can read.
    expected = sorted(value for values in bad.values() for value in values)

    async def buried() -> list[Any]:
        return [record async for record in read_all(broker.bootstrap, [DEAD_LETTERS])]

    async def all_buried() -> bool:
        return len(await buried()) == len(expected)

    await until(all_buried, "all dead letters", fleet=fleet)
    letters = await buried()
    assert expected == sorted(letter.value for letter in letters)
    for letter in letters:
        headers = dict(letter.headers)
        assert b"key" == letter.key
        assert b"42" == headers["trace"]
        assert b"1" == headers["kafka_dlt-original-partition"] == headers["__streams.errors.partition"]
        assert letter.value in bad[headers["kafka_dlt-original-topic"].decode()]
        assert b"not a valid record" in headers["kafka_dlt-exception-message"]
    assert [None] * 3 == [worker.exit_code for worker in fleet.workers.values()]


async def test_object_submitted_twice_has_one_set_of_tasks(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """A repeated object id is recognised, also by a distributor that was started anew."""
    await ensure_topics(Cluster(broker.bootstrap), catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS)))
    fleet.start("distribution", **TAKEN_OVER)
    fleet.start("processing")
    fleet.start("statistics")
    await all_ready(fleet)
    value = b'{"type":"OBJECT_CREATED","object_id":"7f3a","at_ms":1795489276303,"name":"n","content":"c"}'
    async with (
        AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer,
        Follower(broker.bootstrap, PARTITIONS) as follower,
    ):
        await producer.send_and_wait(OBJECTS, value, b"7f3a", partition=2)
        await until(lambda: follower.has_finished_objects(1), "the object", fleet=fleet)
        fleet.kill("distribution-1")
        fleet.revive()
        await producer.send_and_wait(OBJECTS, value, b"7f3a", partition=2)
        accepted = await feed(broker.bootstrap, 100, partitions=PARTITIONS)
        await until(lambda: follower.has_finished_objects(101), "the objects after it", fleet=fleet)
    assert [] == await differences(broker.bootstrap, accepted=[*accepted, "7f3a"])
    topics = await read_topics(broker.bootstrap)
    # Its producer's partitioner is not ours: each of its two records was moved.
    assert (104, 2) == (topics.object_record_count, topics.moved_count)


async def test_statistics_worker_serves_its_part(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Two workers' pages together have every window's counts and every ledger row once, each with its partitions."""
    await ensure_topics(Cluster(broker.bootstrap), catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS)))
    fleet.start_all()
    fleet.start("statistics", "statistics-2")
    await all_ready(fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, 200, partitions=PARTITIONS)
        await until(lambda: follower.has_finished_objects(200), "200 objects", fleet=fleet)
    first, second = fleet.workers["statistics-1"], fleet.workers["statistics-2"]

    def both_told() -> bool:
        told = [read_json(worker, "/windows/")[1] for worker in (first, second)]
        return 600 == sum(one["totals"].get("default", {}).get("tasks_finished", 0) for one in told)

    await until(both_told, "both pages to have it all", fleet=fleet)
    listed = [read_json(worker, "/ledger/")[1] for worker in (first, second)]
    assert [0, 1, 2, 3] == sorted(number for part in listed for number in part["partitions"])
    assert [(2, True)] * 2 == [(len(part["partitions"]), part["is_complete"]) for part in listed]
    assert sorted(accepted) == sorted(one["id"] for part in listed for one in part["objects"])
    found = [read_json(worker, f"/ledger/{accepted[0]}/") for worker in (first, second)]
    assert [200, 404] == sorted(status for status, _ in found)
    row = next(body for status, body in found if status == 200)
    assert ("FINISHED", 3) == (row["state"], len(row["tasks"]))
    html = read_page(first, "/ledger/", accept="text/html").text
    assert all(one["id"] in html for one in listed[0]["objects"])


async def test_terminated_worker_finishes_what_runs(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """SIGTERM lets running tasks finish, commits them, and hands the rest back: exit code 0, nothing runs twice."""
    await ensure_topics(Cluster(broker.bootstrap), catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS)))
    slow = {"EBS_PROCESS_TIME": "1", "EBS_CONCURRENCY": "8", "EBS_DRAIN_S": "100"}
    fleet.start("distribution")
    fleet.start("statistics")
    fleet.start("processing", **slow)
    await all_ready(fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, 10, partitions=PARTITIONS)
        await until(lambda: follower.has_started_tasks(8), "8 running tasks", fleet=fleet)
        await fleet.terminate("processing-1", expected_code=0)
        await follower.catch_up()
        assert follower.started_tasks == follower.finished_tasks
        fleet.start("processing", **slow)
        await until(lambda: follower.has_finished_objects(10), "all objects", fleet=fleet)
    assert [] == await differences(broker.bootstrap, accepted=accepted)


async def test_second_sigterm_ends_at_once(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Who does not want to wait for running tasks asks twice: they run again elsewhere, and count once."""
    await ensure_topics(Cluster(broker.bootstrap), catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS)))
    fleet.start("distribution")
    fleet.start("statistics")
    patient = fleet.start("processing", EBS_PROCESS_TIME="500", EBS_DRAIN_S="500", **TAKEN_OVER)
    await all_ready(fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, 5, partitions=PARTITIONS)
        await until(lambda: follower.has_started_tasks(15), "15 running tasks", fleet=fleet)
        patient.process.terminate()
        await until(lambda: "have 500 s to finish" in patient.log(), "the worker to begin to stop", fleet=fleet)
        assert patient.exit_code is None
        patient.process.terminate()
        await until(lambda: patient.exit_code is not None, "the end", fleet=fleet)
        assert 128 + 15 == patient.exit_code
        del fleet.workers["processing-1"]
        fleet.start("processing", "processing-2")
        await until(lambda: follower.has_finished_objects(5), "all objects", fleet=fleet)
    assert [] == await differences(broker.bootstrap, accepted=accepted)


def run_worker(role: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a worker that should not stay."""
    return subprocess.run(
        [sys.executable, "-m", "faust", "-A", f"agents.{role}", "worker"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("role", ROLES)
def test_bad_setting_is_one_line_and_exit_code_1(role: str) -> None:
    """A worker with a setting that cannot be says which and what it may be."""
    ended = run_worker(role, EBS_PARTITIONS="many")
    assert 1 == ended.returncode
    assert ["error: EBS_PARTITIONS=many: input should be a valid integer, unable to parse string as an integer"] == (
        ended.stderr.splitlines()
    )


async def test_wrong_partition_count_is_one_message_and_exit_code_1(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """A worker whose setting contradicts the topics names the fix and ends."""
    await ensure_topics(Cluster(broker.bootstrap), catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS)))
    worker = fleet.start("processing", EBS_PARTITIONS="5")
    await until(lambda: worker.exit_code is not None, "the refusal", fleet=fleet)
    assert 1 == worker.exit_code
    assert "EBS_PARTITIONS=4" in worker.log()
    assert "Traceback" not in worker.log()


async def test_log_level_is_that_of_our_own_words(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """EBS_LOG_LEVEL is heard whatever Faust's own level is: a worker says what it owns, and Faust is quiet."""
    await ensure_topics(Cluster(broker.bootstrap), catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS)))
    fleet.faust_level = "warn"
    loud = fleet.start("processing", "loud", EBS_LOG_LEVEL="info")
    quiet = fleet.start("processing", "quiet", EBS_LOG_LEVEL="warn")
    await until(lambda: said([loud], "are ready: "), "the loud worker to be ready", fleet=fleet)
    await until(lambda: read_page(quiet, "/").status > 0, "the quiet worker's web server", fleet=fleet)
    assert "[^Worker]" not in loud.log()
    assert "are ready: " not in quiet.log()


def test_tables_are_listed() -> None:
    """`faust tables` names the tables with what they hold."""
    listed = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "agents.statistics", "tables"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert "ledger" in listed.stdout
    assert "windows" in listed.stdout


async def test_large_object_passes_through_all_topics(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """An object as large as `objects` takes becomes requests that are larger still, and they arrive."""
    await ensure_topics(Cluster(broker.bootstrap), catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS)))
    fleet.start_all()
    await all_ready(fleet)
    content = "x" * 1_040_000
    value = json.dumps(
        {
            "type": "OBJECT_CREATED",
            "object_id": "large",
            "at_ms": time.time_ns() // 1_000_000,
            "name": "n",
            "content": content,
        }
    ).encode()
    async with (
        AIOKafkaProducer(
            bootstrap_servers=broker.bootstrap, max_request_size=1 << 21, max_batch_size=1 << 21
        ) as producer,
        Follower(broker.bootstrap, PARTITIONS) as follower,
    ):
        await producer.send_and_wait(OBJECTS, value, b"large", partition=0)
        await until(lambda: follower.has_finished_objects(1), "the large object", fleet=fleet)
    assert [] == await differences(broker.bootstrap, accepted=["large"])


async def test_tasks_of_a_former_retry_topic_are_taken_over(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Tasks wait there since an earlier version: each goes on when it is due, and runs once."""
    former = f"{TASK_REQUESTS}-retry-7s"
    settings = load(broker=broker.bootstrap, partitions=PARTITIONS)
    await ensure_topics(Cluster(broker.bootstrap), catalogue(settings, [former]))
    task = decode_task_request(request("waits", partition=1, attempt=2))
    value = encode(msgspec.structs.replace(task, due_at_ms=time.time_ns() // 1_000_000 + 500))
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        await producer.send_and_wait(former, value, b"waits-0", partition=1)
    for name in ("processing-1", "processing-2"):
        fleet.start("processing", name)

    async def finished() -> list[TaskFinished]:
        events = [decode_task_event(one.value or b"") async for one in read_all(broker.bootstrap, [TASK_EVENTS])]
        return [event for event in events if isinstance(event, TaskFinished)]

    async def is_finished() -> bool:
        return bool(await finished())

    await until(is_finished, "the task to be finished", fleet=fleet)
    (event,) = await finished()
    assert event.wait_ms < 60_000
    assert said(fleet.workers.values(), f"tasks that still wait on {former} are taken over")
