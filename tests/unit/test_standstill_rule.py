"""When work stands still: only if something ought to move, and did not for the whole limit."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition

from app.streaming.standstill_rule import Sample, StandstillRule

IN, MORE = TopicPartition("in", 0), TopicPartition("in", 1)
LIMIT_S = 60.0
MAX_GAP_S = 15.0

IN_HAND = "records are in hand"


def sample(at_s: float, **fields: Any) -> Sample:
    """Return a sample of a worker with 10 records to read, which has read none."""
    return Sample(at_s, **({"ends": {IN: 10, MORE: 0}, "positions": {IN: 0, MORE: 0}, "committed_count": 0} | fields))


def verdicts(*samples: Sample) -> list[bool]:
    """Return for each sample whether work stands still."""
    rule = StandstillRule(LIMIT_S, MAX_GAP_S)
    return [rule.observe(one) is not None for one in samples]


def last_verdict(every_s: float = 5.0, until_s: float = 300.0, **fields: Any) -> str | None:
    """Return the verdict after five minutes of samples that all look the same."""
    rule = StandstillRule(LIMIT_S, MAX_GAP_S)
    verdict = None
    for number in range(round(until_s / every_s) + 1):
        verdict = rule.observe(sample(number * every_s, **fields))
    return verdict


def test_lag_without_progress_is_reported_after_the_limit():
    """Not before it has been seen for the limit; the verdict names partition and offsets."""
    found = verdicts(*(sample(at_s) for at_s in range(0, 75, 5)))
    assert [False] * 12 + [True] * 3 == found
    assert "in-0 stood still for 300 s at offset 0, with records up to 10" == last_verdict()


def test_several_partitions_are_counted():
    """The first is named, the others are counted."""
    assert "in-0 and 1 more partitions stood still" in (last_verdict(ends={IN: 10, MORE: 3}) or "")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"ends": {IN: 0, MORE: 0}}, id="an idle topic"),
        pytest.param({"positions": {IN: 10, MORE: 0}}, id="everything is read"),
        pytest.param({"positions": {IN: 12, MORE: 0}}, id="a transaction of somebody else is open: the end is behind"),
        pytest.param({"positions": {MORE: 0}}, id="the partition is held by back-pressure"),
        pytest.param({"positions": {}}, id="no partition is owned"),
        pytest.param({"backed_up": True}, id="taken records wait for their agent"),
        pytest.param({"excuse": "a rebalance goes on"}, id="a rebalance"),
        pytest.param({"excuse": "partitions are being restored", "in_hand": IN_HAND}, id="a restore"),
        pytest.param(
            {"ends": None, "in_hand": "records are in hand", "step_open": True}, id="the broker does not answer"
        ),
        pytest.param({"ends": {IN: 0}, "positions": {IN: -1}}, id="an empty topic without a position"),
    ],
)
def test_what_is_no_standstill(fields: dict[str, Any]):
    """Where nothing ought to move nothing stands still, however long it lasts."""
    assert last_verdict(**fields) is None


def test_partition_that_moves_now_and_then_makes_progress():
    """Each step forward gives the whole limit again."""
    assert not any(verdicts(*(sample(at_s, positions={IN: at_s // 50, MORE: 0}) for at_s in range(0, 300, 5))))


def test_lag_that_is_gone_and_comes_back_restarts_the_clock():
    """Ten bursts of 50 s of lag are not one of 500 s."""
    samples = [sample(at_s, ends={IN: 10 if at_s % 60 < 50 else 0}) for at_s in range(0, 600, 5)]
    assert not any(verdicts(*samples))


def test_partition_that_makes_no_progress_is_seen_although_others_move():
    """A partition whose fetching is broken is found in a busy worker."""
    fields = [{"ends": {IN: 10, MORE: 10**6}, "positions": {IN: 0, MORE: at_s}} for at_s in range(0, 75, 5)]
    found = verdicts(*(sample(5 * n, committed_count=n, **one) for n, one in enumerate(fields)))
    assert found[-1]


def test_taken_records_that_are_not_committed_make_no_progress():
    """What was taken must be committed within the limit."""
    assert "records are in hand and nothing was committed for 300 s" == last_verdict(ends={}, in_hand=IN_HAND)
    commits = [sample(at_s, ends={}, in_hand=IN_HAND, committed_count=at_s // 50) for at_s in range(0, 300, 5)]
    assert not any(verdicts(*commits))


def test_step_that_does_not_end_makes_no_progress_in_a_rebalance_too():
    """The rebalance waits for the step: it must not be its excuse."""
    verdict = last_verdict(ends={}, step_open=True, excuse="a rebalance goes on")
    assert "a step is open and nothing was committed for 300 s" == verdict


def test_gap_between_samples_counts_as_a_short_one():
    """A process that was stopped for an hour has its whole limit when it goes on."""
    assert [False] * 4 == verdicts(*(sample(at_s) for at_s in (0, 5, 3_605, 3_610)))


def test_time_that_the_broker_was_away_does_not_count():
    """Before and after it 50 s each are not 100 s."""
    before = [sample(at_s) for at_s in range(0, 55, 5)]
    after = [sample(at_s) for at_s in range(60, 115, 5)]
    assert not any(verdicts(*before, sample(55, ends=None), *after))


def test_clock_that_goes_back_counts_nothing():
    """A negative gap is none."""
    assert not any(verdicts(*(sample(at_s) for at_s in (0, 50, 0, 50, 0, 50, 0))))
