"""A dead worker's open transaction holds the last stable offset back; what others commit behind it must not be missed.

A restore that stops at the last stable offset misses all that was committed behind an open transaction (1,281 objects
were lost from the windows that way once): the first test sees that a restore waits, the second one takes the mechanism
out and sees that the loss is noticed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from checker import differences
from feed import feed
from fleet import PATIENT, TAKEN_OVER, Fleet, said, until
from follower import Follower, lag_of
from plain_names import OBJECTS as OBJECTS_TOPIC
from plain_names import STATISTICS_APP, TASK_EVENTS
from system import value_of
from worker_pages import read_page

from app.kafka.abandoned_transactions import transactional_id_of
from app.streaming.application import EXIT_UNDECIDED

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet import Worker

    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 400
HANGS_S = "600"
"""So long that only the test ends the transaction."""
FIRST_ID = "first"


class Lives:
    """Statistics workers that follow one another; the first leaves a transaction open until `end_transaction`."""

    def __init__(self, broker: EmbeddedKafka, fleet: Fleet, broken: str) -> None:
        self.broker = broker
        self.fleet = fleet
        self.accepted: list[str] = []
        self._sabotage = {
            "module": "sabotaged",
            "SABOTAGE_ROLE": "statistics",
            "SABOTAGE_BREAK": broken,
            "SABOTAGE_MARKER": str(fleet.directory / "marker"),
            "SABOTAGE_KEEP_OPEN": "yes",
            **TAKEN_OVER,
            "EBS_TRANSACTION_TIMEOUT_S": HANGS_S,
        }

    async def first_one_dies(self) -> None:
        """Let the first one die with rows in an open transaction."""
        first = self.start("statistics-1", SABOTAGE_AT="sent:3", EBS_WORKER_ID=FIRST_ID)
        self.fleet.start("distribution", **PATIENT)
        self.fleet.start("processing", **PATIENT)
        await until(
            lambda: said(self.fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=self.fleet
        )
        await self.feed()
        await until(lambda: first.exit_code is not None, "the first worker's death", fleet=self.fleet)
        del self.fleet.workers["statistics-1"]

    def start(self, name: str, **env: str) -> Worker:
        """Start the next one."""
        return self.fleet.start("statistics", name, **self._sabotage, **env)

    async def feed(self) -> None:
        """Let objects in."""
        self.accepted += await feed(self.broker.bootstrap, OBJECTS, partitions=PARTITIONS, rate_per_s=400)

    async def end_transaction(self) -> None:
        """End the first one's transaction, as the broker does after its time-out."""
        async with AIOKafkaProducer(
            bootstrap_servers=self.broker.bootstrap, transactional_id=transactional_id_of(STATISTICS_APP, FIRST_ID)
        ):
            pass

    async def has_caught_up(self) -> bool:
        """Return whether all is counted; the changelog does not tell, as what is behind the transaction is hidden."""
        return await lag_of(self.broker.bootstrap, STATISTICS_APP, [OBJECTS_TOPIC, TASK_EVENTS], PARTITIONS) == 0


def standing_still_for(worker: Worker, wanted_s: float) -> Callable[[], bool]:
    """Return a condition: a worker's restore has gone no further for so long."""
    seen, since_s = "", time.monotonic()

    def holds() -> bool:
        nonlocal seen, since_s
        text = read_page(worker, "/readyz").text
        if text != seen or "restored" not in text:
            seen, since_s = text, time.monotonic()
        return time.monotonic() - since_s >= wanted_s

    return holds


async def test_a_restore_waits_for_what_is_behind_an_open_transaction(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """It reads up to the high watermark, so it does not end before the transaction does; then everything is there."""
    lives = Lives(broker, fleet, broken="")
    await lives.first_one_dies()
    second = lives.start("statistics-2")
    await until(standing_still_for(second, 3.0), "the restore to wait", fleet=fleet)
    assert "are ready: " not in second.log()
    await lives.end_transaction()
    await until(lives.has_caught_up, "the second worker's commits", fleet=fleet)
    fleet.kill("statistics-2")
    del fleet.workers["statistics-2"]
    lives.start("statistics-3")
    await lives.feed()
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        await until(lambda: follower.has_finished_objects(2 * OBJECTS), "the third worker's commits", fleet=fleet)
    found = await differences(broker.bootstrap, accepted=lives.accepted)
    assert [] == found, "\n".join([*found, fleet.last_words()])


async def test_a_restore_up_to_the_stable_offset_is_noticed(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """With the last stable offset in its place, what the second worker committed is missing: the third one refuses."""
    lives = Lives(broker, fleet, broken="watermark")
    await lives.first_one_dies()
    lives.start("statistics-2")
    await until(lives.has_caught_up, "the second worker's commits", fleet=fleet)
    fleet.kill("statistics-2")
    del fleet.workers["statistics-2"]
    third = lives.start("statistics-3")
    await until(lambda: third.exit_code is not None, "the third worker to end", fleet=fleet)
    assert EXIT_UNDECIDED == third.exit_code
    assert "the newest rows of" in third.log()
    await lives.end_transaction()


async def test_survivors_end_a_dead_workers_transaction(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """With a time-out of ten minutes nobody waits for it: the next owner ends what the dead worker left open."""
    sabotage = {
        "module": "sabotaged",
        "SABOTAGE_ROLE": "processing",
        "SABOTAGE_MARKER": str(fleet.directory / "marker"),
        **TAKEN_OVER,
        "EBS_TRANSACTION_TIMEOUT_S": HANGS_S,
    }
    first = fleet.start("processing", SABOTAGE_AT="sent:3", **sabotage)
    for role in ("distribution", "statistics"):
        fleet.start(role, **PATIENT)
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, OBJECTS, partitions=PARTITIONS, rate_per_s=400)
        await until(lambda: first.exit_code is not None, "the first worker's death", fleet=fleet)
        del fleet.workers["processing-1"]
        second = fleet.start("processing", "processing-2", **PATIENT | {"EBS_TRANSACTION_TIMEOUT_S": HANGS_S})
        await until(lambda: follower.has_finished_objects(OBJECTS), "the second worker's commits", fleet=fleet)
        assert 0 < (value_of(read_page(second, "/metrics").text, "ebs_transactions_aborted_total") or 0)
    assert "ended the open transaction of ebs-processing:" in second.log()
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, "\n".join([*found, fleet.last_words()])
