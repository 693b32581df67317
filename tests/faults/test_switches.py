"""Each mechanism of exactly-once taken out once: the checker must find the damage, or it proves nothing.

The same faults without the switch are in `test_crash_points.py`, where nothing may be found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from api_process import PATIENCE_S
from checker import differences
from feed import feed, feeding
from fleet import Fleet, said, until
from follower import Follower
from sabotage_run import MIDST, PARTITIONS, run_sabotaged

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka


async def test_without_fencing_a_worker_that_was_away_writes_again(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Offsets without member id and generation let a frozen worker commit a step that another one has done."""
    found = await run_sabotaged(
        broker,
        fleet,
        "processing",
        second_worker=True,
        ends=False,
        SABOTAGE_AT=f"begun:{MIDST}",
        SABOTAGE_BY="freeze",
        SABOTAGE_BREAK="fencing",
    )
    assert any("stands 2 times on task-events" in one for one in found), found


async def test_with_offsets_outside_of_the_transaction_a_crash_repeats_a_step(
    broker: EmbeddedKafka, fleet: Fleet
) -> None:
    """A crash between the transaction and its offsets works the same records again."""
    found = await run_sabotaged(
        broker, fleet, "processing", ends=False, SABOTAGE_AT=f"committed:{MIDST}", SABOTAGE_BREAK="offsets"
    )
    assert any("stands 2 times on task-events" in one for one in found), found


async def test_with_rows_outside_of_the_transaction_a_crash_loses_counts_and_ends(
    broker: EmbeddedKafka, fleet: Fleet
) -> None:
    """Ledger rows that are written before a step fails make its second run believe that all was counted and told."""
    found = await run_sabotaged(
        broker, fleet, "statistics", ends=False, SABOTAGE_AT=f"begun:{MIDST}", SABOTAGE_BREAK="changelog"
    )
    assert any(": window of " in one or "the last end of " in one for one in found), found


async def test_with_outputs_outside_of_the_attempt_a_crash_repeats_them(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """What functions submit is written although the attempt's step fails: the next run writes it once more."""
    found = await run_sabotaged(
        broker,
        fleet,
        "processing",
        ends=False,
        SABOTAGE_AT=f"begun:{MIDST}",
        SABOTAGE_BREAK="outputs",
    )
    assert any(" times on objects" in one for one in found), found


async def test_without_skipping_a_rebalance_works_records_twice(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """After a rebalance records are read again from the committed offset on; nothing but the skip keeps them out."""
    sabotage = {"SABOTAGE_MARKER": str(fleet.directory / "marker"), "SABOTAGE_BREAK": "skipping"}
    # More comes than the first worker can do: it has much left when the second is ready, however long that takes.
    slow = {"EBS_PROCESS_TIME": "0.05", "EBS_CONCURRENCY": "16"}
    fleet.start("distribution")
    fleet.start("statistics")
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, 1_500, partitions=PARTITIONS)
        fleet.start("processing", module="sabotaged", SABOTAGE_ROLE="processing", **sabotage, **slow)
        await until(lambda: follower.has_finished_tasks(100), "some tasks", fleet=fleet)
        second = fleet.start("processing", "processing-2", **slow)
        async with feeding(broker.bootstrap, partitions=PARTITIONS, rate_per_s=120) as more:
            await until(lambda: said([second], "are ready: "), "the second worker", fleet=fleet)
        accepted += more
        await until(
            lambda: follower.has_finished_tasks(3 * len(accepted)),
            "all tasks",
            fleet=fleet,
            reviving=True,
            timeout_s=2 * PATIENCE_S,
        )
    found = await differences(broker.bootstrap, accepted=accepted, all_finished=False)
    assert any("stands 2 times on task-events" in one for one in found), found
