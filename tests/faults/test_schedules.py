"""Schedules fire each instant exactly once, whatever dies, freezes and is rebalanced meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api_process import PATIENCE_S
from broker_site import PARTITIONS
from fleet import Fleet, owned, said, until
from scheduled import Fired, every_second, set_schedules

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

SCHEDULES = 50
ALL = list(range(PARTITIONS))


async def test_each_instant_fires_once_through_a_kill_and_a_freeze(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """One of two workers is killed, the other one frozen until the first has its partitions, and woken again."""
    first, second = (fleet.start("distribution", f"distribution-{number}") for number in (1, 2))
    await until(lambda: said([first, second], "are ready: "), "two workers", fleet=fleet)
    schedules = every_second(SCHEDULES, last_s=25)
    async with Fired(broker.bootstrap, schedules, PARTITIONS) as fired:
        await set_schedules(broker.bootstrap, schedules, PARTITIONS)
        await until(lambda: fired.has(2 * SCHEDULES), "the first instants", fleet=fleet)
        fleet.kill("distribution-1")
        await until(lambda: owned(second) == ALL, "the second worker to own all", fleet=fleet)
        await until(lambda: fired.has(10 * SCHEDULES), "more instants", fleet=fleet)
        fleet.revive()
        await until(lambda: owned(second) not in ([], ALL), "the first worker to own some again", fleet=fleet)
        fleet.freeze("distribution-2")
        await until(lambda: owned(first) == ALL, "the first worker to own all", fleet=fleet)
        await until(lambda: fired.has(18 * SCHEDULES), "more instants", fleet=fleet)
        fleet.thaw("distribution-2")
        everything = fired.expected_count
        await until(lambda: fired.has(everything), "all instants", fleet=fleet, reviving=True, timeout_s=2 * PATIENCE_S)
        found = fired.differences()
        assert [] == found, "\n".join([*found[:20], fleet.last_words()])
        # By the stamps of the broker, which has the same clock.
        assert min(late_ms for _, late_ms in fired.late_ms) >= 0


async def test_with_rows_outside_of_the_transaction_a_crash_loses_instants(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """The row says that the instant has fired, and its object is not there: nobody fires it any more."""
    marker = fleet.directory / "marker"
    sabotage = {"SABOTAGE_ROLE": "distribution", "SABOTAGE_MARKER": str(marker), "SABOTAGE_BREAK": "changelog"}
    schedules = every_second(SCHEDULES, last_s=20)
    async with Fired(broker.bootstrap, schedules, PARTITIONS) as fired:
        # Before the worker starts, so that it takes all of them over within its first steps, one for each partition at
        # the most: the step in which it dies fires.
        await set_schedules(broker.bootstrap, schedules, PARTITIONS)
        fleet.start("distribution", module="sabotaged", SABOTAGE_AT=f"begun:{PARTITIONS + 4}", **sabotage)
        await until(fired.has_last_ones, "the last instants", fleet=fleet, reviving=True)
        found = fired.differences()
    assert marker.exists()
    assert any(" did not fire at " in one for one in found), found
