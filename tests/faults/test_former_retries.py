"""A backlog in a retry topic of an earlier version is taken over while the worker is killed: each task runs once."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
from aiokafka import AIOKafkaProducer
from checker import read_all
from engine_bench import request
from fault_handlers import PLANNED
from fleet import Fleet, said, until
from follower import Follower, lag_of
from plain_names import PROCESSING_APP, TASK_EVENTS, TASK_REQUESTS

from app.events import TaskFinished, TaskStarted, decode_task_event, decode_task_request, encode
from app.kafka.cluster import Cluster
from app.settings.settings import load
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
FORMER = f"{TASK_REQUESTS}-retry-7s"
TASKS = 6_000
CONTENT = "x" * 2_000
"""So that no step takes over all of them."""
WAIT_S = 8
"""When the second half is due: the first half is there before."""


async def fill(broker: EmbeddedKafka) -> dict[str, int]:
    """Write tasks, every second one due later; returns when each is due."""
    settings = load(broker=broker.bootstrap, partitions=PARTITIONS)
    await ensure_topics(Cluster(broker.bootstrap), catalogue(settings, [FORMER]))
    now_ms = time.time_ns() // 1_000_000
    due_at_ms = {}
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, enable_idempotence=True) as producer:
        for number in range(TASKS):
            task = decode_task_request(request(f"o{number}", partition=number % PARTITIONS, attempt=2, content=CONTENT))
            due_at_ms[task.task_id] = now_ms + number % 2 * WAIT_S * 1_000
            value = encode(msgspec.structs.replace(task, due_at_ms=due_at_ms[task.task_id]))
            await producer.send(FORMER, value, task.task_id.encode(), partition=number % PARTITIONS)
        await producer.flush()
    return due_at_ms


async def test_backlog_is_taken_over_once_through_kills(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """One worker dies while it sends the tasks on, and the next one as well; none starts before it is due."""
    due_at_ms = await fill(broker)
    marker = fleet.directory / "marker"
    sabotage = {"SABOTAGE_ROLE": "processing", "SABOTAGE_MARKER": str(marker), "SABOTAGE_AT": "offered:2"}
    worker = fleet.start("processing", module="sabotaged", **sabotage, **PLANNED)
    await until(marker.exists, "the first death", fleet=fleet)
    await until(lambda: worker.exit_code is not None, "the worker to be dead", fleet=fleet)
    assert 0 < await lag_of(broker.bootstrap, PROCESSING_APP, [FORMER], PARTITIONS) < TASKS
    fleet.revive()
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        await until(lambda: follower.has_finished_tasks(TASKS // 8), "some tasks to finish", fleet=fleet)
        fleet.kill("processing-1")
        fleet.revive()
        await until(lambda: follower.has_finished_tasks(TASKS), "all tasks", fleet=fleet, reviving=True)
    assert said([worker], f"tasks that still wait on {FORMER} are taken over")
    sent_on = Counter([one.key.decode() async for one in read_all(broker.bootstrap, [TASK_REQUESTS])])
    assert dict.fromkeys(due_at_ms, 1) == sent_on
    events = [decode_task_event(one.value) async for one in read_all(broker.bootstrap, [TASK_EVENTS])]
    assert dict.fromkeys(due_at_ms, 1) == Counter(one.task_id for one in events if isinstance(one, TaskFinished))
    starts = {one.task_id: one.at_ms for one in events if isinstance(one, TaskStarted)}
    assert [] == [task_id for task_id, at_ms in starts.items() if at_ms < due_at_ms[task_id]]
