"""Objects that are split and joined: each join exactly once, with all results in order, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from api_process import PATIENCE_S
from checker import differences, read_all
from feed import feed
from fleet import PATIENT, ROLES, Fleet, said, until
from follower import Follower
from joined_project import JOINED, KIND
from plain_names import TASK_EVENTS

from app.names import BARE

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 600
RATE_PER_S = 100


def text(number: int) -> str:
    """Return the words of an object: none to four."""
    return " ".join(f"w{number}x{word}" for word in range(number % 5))


async def ends_of(broker: EmbeddedKafka) -> dict[str, list[dict[str, Any]]]:
    """Return by object the ends that readers of committed records see."""
    ends: dict[str, list[dict[str, Any]]] = {}
    async for record in read_all(broker.bootstrap, [BARE.object_events]):
        event = json.loads(record.value)
        ends.setdefault(event["object_id"], []).append(event)
    return ends


async def test_each_join_runs_once_with_all_results_in_order(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """A worker of each role is killed while objects are split, worked and joined."""
    for role in ROLES:
        for number in (1, 2):
            fleet.start(role, f"{role}-{number}", **(PATIENT | JOINED))
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)
    numbers: dict[str, int] = {}
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        feeding = asyncio.create_task(
            feed(broker.bootstrap, OBJECTS, partitions=PARTITIONS, rate_per_s=RATE_PER_S, kind=KIND, name=text)
        )
        for part, role in enumerate(ROLES, start=1):
            wanted = part * OBJECTS // 2
            await until(
                lambda wanted=wanted: follower.has_finished_tasks(wanted),
                f"{wanted} finished tasks",
                fleet=fleet,
                reviving=True,
            )
            fleet.kill(f"{role}-1")
        accepted = await feeding
        numbers = {object_id: number for number, object_id in enumerate(accepted)}
        await until(
            lambda: follower.has_finished_objects(OBJECTS),
            f"{OBJECTS} finished objects",
            fleet=fleet,
            reviving=True,
            timeout_s=2 * PATIENCE_S,
        )
    ends = await ends_of(broker)
    assert set(accepted) == set(ends)
    for object_id, told in ends.items():
        words = text(numbers[object_id]).split()
        assert [("OBJECT_FINISHED", len(words))] == [(end["type"], end["tasks_finished"]) for end in told]
        assert {"text": " ".join(words), "letters": len("".join(words))} == told[0]["result"]
    events = [json.loads(record.value) async for record in read_all(broker.bootstrap, [TASK_EVENTS])]
    finished = Counter(event["task_id"] for event in events if event["type"] == "TASK_FINISHED")
    assert {1} == set(finished.values())
    assert {f"{one}-{role}" for one in accepted for role in ("split", "join")} <= set(finished)
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, "\n".join([*found[:20], fleet.last_words()])
