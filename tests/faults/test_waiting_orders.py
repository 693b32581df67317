"""Waiting tasks that are started now or cancelled on a real broker, while their worker is killed: each ends once."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from checker import differences, read_all, read_topics
from fault_handlers import PLANNED
from feed import feed
from fleet import PATIENT, TAKEN_OVER, Fleet, said, until
from follower import Follower
from plain_names import CONTROL, WAITING_CHANGELOG

from app.rules.commands import CancelWaiting, StartWaiting, encode_command, filter_name
from app.rules.waiting_rows import TIMED, decode_key

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 300
TASKS = 3 * OBJECTS
DELAY_S = 3_600


async def rows_of(broker: EmbeddedKafka) -> set[tuple[int, bytes]]:
    """Return which rows the table has, as its changelog tells."""
    rows: set[tuple[int, bytes]] = set()
    async for record in read_all(broker.bootstrap, [WAITING_CHANGELOG]):
        if record.key and record.key[:1] == TIMED:
            (rows.add if record.value is not None else rows.discard)((record.partition, record.key))
    return rows


async def ask(broker: EmbeddedKafka, family: str, order: Any) -> None:
    """Let an operator ask for something."""
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        await producer.send_and_wait(CONTROL, encode_command(order), f"{family}:{filter_name(order)}".encode())


def now_ms() -> int:
    """Return the time now."""
    return time.time_ns() // 1_000_000


async def test_starts_and_cancels_of_many_survive_a_kill(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """One kind is started an hour early, one cancelled, one waits on; commands that are repeated change nothing."""
    fleet.start("distribution", **PATIENT)
    fleet.start("statistics", **PATIENT)
    fleet.start("processing", **(PLANNED | TAKEN_OVER), EBS_CONCURRENCY="8")
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = {
            kind: await feed(
                broker.bootstrap,
                OBJECTS,
                partitions=PARTITIONS,
                kind=kind,
                name="slow 0.005",
                fields=lambda _number: {"delay_s": DELAY_S},
            )
            for kind in ("now", "never", "later")
        }

        async def all_wait() -> bool:
            return len(await rows_of(broker)) == 3 * TASKS

        await until(all_wait, "all tasks to wait", fleet=fleet)
        await ask(broker, "start:waiting", StartWaiting(now_ms(), kind="now"))
        await ask(broker, "cancel:waiting", CancelWaiting(now_ms(), kind="never"))
        await until(lambda: follower.has_started_tasks(20), "the first starts", fleet=fleet)
        fleet.kill("processing-1")
        fleet.revive()
        await ask(broker, "start:waiting", StartWaiting(now_ms(), kind="now"))
        await until(lambda: follower.has_ended_tasks(2 * TASKS), "the ends of two kinds", fleet=fleet, reviving=True)
        await ask(broker, "cancel:waiting", CancelWaiting(now_ms(), kind="never"))

        async def two_kinds_are_gone() -> bool:
            return len(await rows_of(broker)) == TASKS

        await until(two_kinds_are_gone, "their rows to be gone", fleet=fleet)
    found = await differences(
        broker.bootstrap, accepted=[one for ids in accepted.values() for one in ids], all_finished=False
    )
    assert [] == found, found
    topics = await read_topics(broker.bootstrap)
    ends = Counter(
        (event["kind"], event["type"], event["task_id"])
        for events in topics.events.values()
        for event in events
        if event["type"] in {"TASK_FINISHED", "TASK_CANCELLED"}
    )
    assert {1} == set(ends.values())
    assert {("now", "TASK_FINISHED"): TASKS, ("never", "TASK_CANCELLED"): TASKS} == Counter(one[:2] for one in ends)
    assert min(decode_key(key).due_at_ms for _, key in await rows_of(broker)) > now_ms() + DELAY_S * 500
