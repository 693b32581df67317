"""What a worker's probes say of each state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agents.health import check_broker, check_membership, check_output_topics, check_partitions, check_progress
from app.streaming.partition import Partition
from app.streaming.restore import RestoreProgress


def app(**changes: Any) -> Any:
    """Return a worker that is fine: partitions 0 and 1 are worked."""
    partitions = {number: Partition(number) for number in (0, 1)}
    for partition in partitions.values():
        partition.active = True
    ownership = SimpleNamespace(
        group_id="ebs-test",
        membership=SimpleNamespace(generation=3),
        is_suspended=False,
        partitions=partitions,
        restoring=[],
    )
    progress = SimpleNamespace(ends={}, verdict=None, why_away="", survey=None, why_excused=lambda: "", refused=dict)
    fine = {"is_prepared": True, "should_stop": False, "progress_monitor": progress, "absent_topics": []}
    return SimpleNamespace(transactions=SimpleNamespace(ownership=ownership), **(fine | changes))


def test_worker_that_is_fine_passes_every_check():
    """With its partitions and generation in words."""
    looks = (check_progress, check_broker, check_membership, check_partitions, check_output_topics)
    checks = [check(app()) for check in looks]
    assert [True] * 5 == [check.ok for check in checks]
    assert "works partitions 0, 1" == checks[3].detail
    assert "a member of ebs-test in generation 3" == checks[2].detail


def test_standstill_fails_liveness_with_its_reason():
    """The verdict is the reason."""
    worker = app()
    worker.progress_monitor.verdict = "in-0 stood still for 60 s"
    assert (False, "in-0 stood still for 60 s") == check_progress(worker)[1:]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"is_prepared": False}, "the worker waits for the Kafka broker and its topics"),
        (
            {"progress_monitor": SimpleNamespace(ends=None, why_away="", refused=dict)},
            "the Kafka broker does not answer",
        ),
    ],
)
def test_broker_that_is_away_fails_readiness(changes, said):
    """Before the start and later."""
    assert (False, said) == check_broker(app(**changes))[1:]


def test_partition_that_the_broker_cannot_read_fails_readiness_only():
    """The others go on, and a new life of the worker would change nothing."""
    worker = app()
    worker.progress_monitor.refused = lambda: {("in", 1): "the broker cannot read in-1 from offset 9 on"}
    assert (False, "the broker cannot read in-1 from offset 9 on") == check_broker(worker)[1:]
    assert check_progress(worker).ok


def test_membership_fails_readiness_until_joined_and_while_it_changes():
    """Not joined, a rebalance, the stop."""
    worker = app(should_stop=True)
    assert (False, "the worker stops") == check_membership(worker)[1:]
    worker.should_stop = False
    worker.transactions.ownership.is_suspended = True
    assert (False, "a rebalance goes on") == check_membership(worker)[1:]
    worker.transactions.ownership.membership = None
    assert (False, "the worker has not joined its group yet") == check_membership(worker)[1:]


def test_restore_fails_readiness_and_says_how_far_it_is():
    """Which partitions, how much, how many rows."""
    worker = app()
    ownership = worker.transactions.ownership
    ownership.partitions[1].active = False
    progress = RestoreProgress(1)
    progress.row_count, progress.done, progress.total = 1_200, 3, 4
    ownership.restoring.append(progress)
    assert (False, "partitions 1 are not ready: 75% restored, 1200 rows") == check_partitions(worker)[1:]


def test_worker_without_any_partition_is_ready():
    """More workers than partitions: the others have them all."""
    worker = app()
    worker.transactions.ownership.partitions.clear()
    assert (True, "owns no partition: others have all") == check_partitions(worker)[1:]


def test_partitions_that_nobody_has_fail_readiness():
    """Having none is fine only while others have them all."""
    worker = app()
    worker.transactions.ownership.partitions.clear()
    worker.progress_monitor.survey = SimpleNamespace(unowned=(3, 4))
    assert (
        False,
        "no worker has partitions 3, 4: this worker will soon restart and join the group again",
    ) == check_partitions(worker)[1:]
    worker.progress_monitor.survey.unowned = ()
    assert check_partitions(worker).ok


def test_part_of_the_cluster_that_is_away_is_named():
    """Which broker, or partition."""
    worker = app()
    worker.progress_monitor.ends, worker.progress_monitor.why_away = None, "broker 2 does not answer"
    assert (False, "broker 2 does not answer") == check_broker(worker)[1:]
