"""The engine on a real broker: retries, deaths, rejections and crashes in the middle, counted exactly."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from checker import differences, read_all, read_topics
from fault_handlers import PLANNED
from feed import feed
from fleet import PATIENT, TAKEN_OVER, Fleet, said, until
from follower import Follower
from plain_names import DEAD_LETTERS, TASK_EVENTS

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4


async def start(fleet: Fleet, **processing: str) -> None:
    """Start a worker of each role, with the handler that does what the object's name says."""
    fleet.start("distribution", EBS_BACKOFF_S="1", **PATIENT)
    fleet.start("statistics", EBS_BACKOFF_S="1", **PATIENT)
    fleet.start("processing", **(PATIENT | PLANNED | processing))
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)


def decode(value: bytes) -> dict[str, Any]:
    """Return an event as another program reads it."""
    event: dict[str, Any] = json.loads(value)
    return event


async def test_failures_are_retried_and_end_where_they_must(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Flaky tasks finish at their third attempt, poison and rejected ones die, healthy ones do not notice."""
    await start(fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        names = {"a name": 100, "flaky": 20, "poison": 10, "reject": 10}
        accepted = {
            name: await feed(broker.bootstrap, count, partitions=PARTITIONS, name=name) for name, count in names.items()
        }
        await until(lambda: follower.has_ended_tasks(3 * 140), "all tasks to end", fleet=fleet)
        assert 3 * 120 == len(follower.finished_tasks)
        assert 3 * 20 == len(follower.dead_tasks)
        await until(lambda: follower.has_finished_objects(120), "120 finished objects", fleet=fleet)
    found = await differences(broker.bootstrap, accepted=[one for ids in accepted.values() for one in ids])
    assert [] == found, found
    topics = await read_topics(broker.bootstrap)
    attempts = Counter(
        (topics.objects[object_id]["name"], event["type"], event["attempt"])
        for object_id, events in topics.events.items()
        for event in events
        if event["type"] in {"TASK_STARTED", "TASK_FAILED", "TASK_RETRIED"}
    )
    assert [60, 60, 60] == [attempts["flaky", "TASK_STARTED", number] for number in (1, 2, 3)]
    assert [60, 60, 0] == [attempts["flaky", "TASK_RETRIED", number] for number in (1, 2, 3)]
    assert [30, 30, 30] == [attempts["poison", "TASK_FAILED", number] for number in (1, 2, 3)]
    assert [30, 0] == [attempts["reject", "TASK_STARTED", number] for number in (1, 2)]
    assert 60 == len(topics.dead_letters)


async def test_waiting_retries_survive_their_worker(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """A worker killed while its retries wait: none is lost, none is doubled, none comes early."""
    await start(fleet, **TAKEN_OVER)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, 200, partitions=PARTITIONS, name="flaky")
        await until(lambda: follower.has_started_tasks(300), "the first attempts", fleet=fleet)
        fleet.kill("processing-1")
        fleet.revive()
        await until(lambda: follower.has_finished_objects(200), "all objects", fleet=fleet, reviving=True)
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, found
    failed_at: dict[tuple[str, int], int] = {}
    early = []
    async for record in read_all(broker.bootstrap, [TASK_EVENTS]):
        event = decode(record.value)
        if event["type"] == "TASK_FAILED":
            failed_at[event["task_id"], event["attempt"]] = event["at_ms"]
        if event["type"] == "TASK_STARTED" and event["attempt"] > 1:
            waited_ms = event["at_ms"] - failed_at[event["task_id"], event["attempt"] - 1]
            if waited_ms < 500:
                early.append(waited_ms)
    assert [] == early


async def test_kill_with_many_in_flight_runs_only_these_again(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """None lost, run again only what was not committed, each result once."""
    runs = fleet.directory / "runs"
    await start(fleet, EBS_CONCURRENCY="200", FAULT_HANDLER_RUNS=str(runs), **TAKEN_OVER)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, 500, partitions=PARTITIONS, name="slow 1")
        await until(lambda: follower.has_finished_tasks(300), "some tasks", fleet=fleet)
        fleet.kill("processing-1")
        await follower.catch_up()
        committed = set(follower.finished_tasks)
        fleet.revive()
        await until(lambda: follower.has_finished_objects(500), "all objects", fleet=fleet, reviving=True)
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, found
    per_task = Counter(line.split()[0] for line in runs.read_text().splitlines())
    assert 1_500 == len(per_task)
    assert {1, 2} == set(per_task.values())
    again = {task for task, count in per_task.items() if count == 2}
    assert set() == again & committed


async def test_dead_letters_name_their_task(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """The dead letter of a failed task has its request, the attempts and the error in headers."""
    await start(fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        (object_id,) = await feed(broker.bootstrap, 1, partitions=PARTITIONS, name="poison")
        await until(lambda: follower.has_ended_tasks(3), "the tasks to die", fleet=fleet)
    letters = [record async for record in read_all(broker.bootstrap, [DEAD_LETTERS])]
    assert {f"{object_id}-{sequence}" for sequence in range(3)} == {decode(one.value)["task_id"] for one in letters}
    for letter in letters:
        headers = dict(letter.headers)
        assert b"3" == headers["retry_topic-attempts"]
        assert b"builtins.ValueError" == headers["kafka_dlt-exception-fqcn"]
        assert b"cannot work on" in headers["kafka_dlt-exception-message"]
        assert (b"default", decode(letter.value)["task_id"].encode(), object_id.encode(), b"0") == tuple(
            headers[name] for name in ("ebs-kind", "ebs-task-id", "ebs-object-id", "ebs-redrive")
        )
        assert 3 == decode(letter.value)["attempt"]
