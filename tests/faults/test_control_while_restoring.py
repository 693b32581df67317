"""Commands that are given while a worker restores thousands of waiting rows and takes its partitions, many times."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from checker import differences, read_all, read_topics
from fault_handlers import PLANNED
from feed import feed
from fleet import PATIENT, Fleet, said, until
from follower import Follower
from plain_names import CONTROL, WAITING_CHANGELOG

from app.rules.commands import Cancel, CancelWaiting, LimitKind, LimitRate, Pause, StartWaiting, encode_command
from app.rules.waiting_rows import IN_LINE, TIMED

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 700
TASKS = 3
ROUNDS = 3
PACE_S = 0.03
"""Between two commands, from the start of a life until its partitions are ready."""
READY = "are ready: "
DELAY_S = 3_600
LATER, PAUSED = "later", "paused"


async def test_commands_of_a_restore_are_carried_out_once(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Rows of delays and of a paused kind: what was cancelled ends so, all others run once when they are let go."""
    rng = random.Random(15)
    fleet.start("distribution", **PATIENT)
    fleet.start("statistics", **PATIENT)
    for number in (1, 2):
        fleet.start("processing", f"processing-{number}", **PLANNED)
    await until(lambda: said(fleet.workers.values(), READY), "all workers", fleet=fleet)
    async with (
        Follower(broker.bootstrap, PARTITIONS) as follower,
        AIOKafkaProducer(bootstrap_servers=broker.bootstrap, enable_idempotence=True) as producer,
    ):

        async def command(key: str, told: Any) -> None:
            await producer.send_and_wait(CONTROL, None if told is None else encode_command(told), key.encode())

        await command(f"pause:{PAUSED}", Pause())
        later = await feed(
            broker.bootstrap, OBJECTS, partitions=PARTITIONS, kind=LATER, fields=lambda _number: {"delay_s": DELAY_S}
        )
        # Of each partition 1,000 wait in memory, so most of these are rows.
        paused = await feed(broker.bootstrap, 4 * OBJECTS, partitions=PARTITIONS, kind=PAUSED)

        async def rows_are_there() -> bool:
            counts = await row_counts(broker)
            return counts[TIMED] == OBJECTS * TASKS and counts[IN_LINE] >= 4 * (OBJECTS * TASKS - 1_000)

        await until(rows_are_there, "the rows", fleet=fleet)
        cancelled, started = set(), set()
        for _ in range(ROUNDS):
            worker = fleet.workers[f"processing-{rng.randint(1, 2)}"]
            life = worker.log().count(READY)
            fleet.kill(worker.name)
            fleet.revive()
            while worker.log().count(READY) == life:
                key, told = draw(rng, rng.choice(later))
                if isinstance(told, Cancel | CancelWaiting):
                    cancelled.add(told.object_id)
                if isinstance(told, StartWaiting):
                    started.add(told.object_id)
                await command(key, told)
                await asyncio.sleep(PACE_S)
                fleet.revive()
        for key in ("pause", f"limit:{LATER}", f"rate:{LATER}", f"pause:{PAUSED}"):
            await command(key, None)
        await command(f"start:waiting:kind={LATER}", StartWaiting(now_ms(), kind=LATER))
        await all_end(broker, fleet, follower, later, paused)

    async def rows_are_gone() -> bool:
        return not await row_counts(broker)

    await until(rows_are_gone, "the rows to be gone", fleet=fleet)
    found = await differences(broker.bootstrap, accepted=[*later, *paused])
    assert [] == found, "\n".join([*found, fleet.last_words()])
    topics = await read_topics(broker.bootstrap)
    ends = Counter(
        event["object_id"] for events in topics.events.values() for event in events if event["type"] == "TASK_CANCELLED"
    )
    assert ends.keys() <= cancelled
    # What nobody has started waited for an hour when it was cancelled.
    assert dict.fromkeys(cancelled - started, TASKS).items() <= ends.items()


def draw(rng: random.Random, object_id: str) -> tuple[str, Any]:
    """Return a command: its key, and what it says, None if it takes one back."""
    of_object = {"object_id": object_id}
    return rng.choice([
        ("pause", Pause()),
        ("pause", None),
        (f"limit:{LATER}", LimitKind(LATER, concurrency=rng.randint(1, 8))),
        (f"limit:{LATER}", None),
        (f"rate:{LATER}", LimitRate(LATER, 50)),
        (f"rate:{LATER}", None),
        (f"start:waiting:object_id={object_id}", StartWaiting(now_ms(), **of_object)),
        (f"cancel:waiting:object_id={object_id}", CancelWaiting(now_ms(), **of_object)),
        (f"cancel:object:{object_id}", Cancel(**of_object, at_ms=now_ms())),
    ])  # fmt: skip


async def all_end(broker: EmbeddedKafka, fleet: Fleet, follower: Follower, later: list[str], paused: list[str]) -> None:
    """Wait until all tasks have ended; if some do not, say what they are and what waits in the table."""
    kinds = dict.fromkeys(later, LATER) | dict.fromkeys(paused, PAUSED)
    tasks = {f"{one}-{sequence}": kind for one, kind in kinds.items() for sequence in range(TASKS)}
    try:
        await until(lambda: follower.has_ended_tasks(len(tasks)), "all tasks to end", fleet=fleet, reviving=True)
    except AssertionError as error:
        ended = follower.finished_tasks | follower.dead_tasks | follower.cancelled_tasks
        left = Counter((kind, task in follower.started_tasks) for task, kind in tasks.items() if task not in ended)
        rows = await row_counts(broker)
        raise AssertionError(f"left, by kind and whether it has started: {left}; rows: {rows}\n{error}") from None


async def row_counts(broker: EmbeddedKafka) -> Counter[bytes]:
    """Return how many rows there are of each sort, as the changelog tells."""
    rows: set[tuple[int, bytes]] = set()
    async for record in read_all(broker.bootstrap, [WAITING_CHANGELOG]):
        if record.key and record.key[:1] in (TIMED, IN_LINE):
            (rows.add if record.value is not None else rows.discard)((record.partition, record.key))
    return Counter(key[:1] for _, key in rows)


def now_ms() -> int:
    """Return the time now."""
    return time.time_ns() // 1_000_000
