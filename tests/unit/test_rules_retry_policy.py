"""Back-off: when a failed task is tried again, and when it is given up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.retry_policy import GiveUp, RetryAt, RetryPolicy

DAY_MS = 86_400_000
POLICY = RetryPolicy((1, 10, 60), max_attempts=5, max_age_ms=DAY_MS)
NOW_MS = 1_795_489_276_303


def middle(low: float, high: float) -> float:
    """Draw the mean."""
    return (low + high) / 2


def decide(attempt: int, *, age_ms: int = 0, delay_s: float | None = None, draw=middle):
    """Ask the policy about a task of some age."""
    return POLICY.decide(
        attempt=attempt, created_at_ms=NOW_MS - age_ms, now_ms=NOW_MS, asked_delay_s=delay_s, draw=draw
    )


@pytest.mark.parametrize(("attempt", "step_s"), [(1, 1), (2, 10), (3, 60), (4, 60)])
def test_each_failure_waits_for_the_next_step(attempt, step_s):
    """The last step repeats."""
    assert RetryAt(NOW_MS + step_s * 1_000) == decide(attempt)


def test_last_attempt_is_the_end():
    """The first attempt counts."""
    assert GiveUp("all 5 attempts failed") == decide(5)


def test_old_task_is_given_up():
    """A retry that would come too late does not come."""
    assert isinstance(decide(1, age_ms=DAY_MS), GiveUp)
    assert isinstance(decide(1, age_ms=DAY_MS - 1_001), RetryAt)


@pytest.mark.parametrize("delay_s", [0, 0.2, 1, 9.9, 10, 59, 3_600])
def test_delay_that_the_task_asks_for_is_kept_to_the_millisecond(delay_s):
    """No jitter."""
    assert RetryAt(NOW_MS + round(delay_s * 1_000)) == decide(1, delay_s=delay_s)


@given(attempt=st.integers(1, 4), fraction=st.floats(0, 1))
def test_jitter_stays_within_half_of_the_step(attempt, fraction):
    """Never due before half a step, never after one and a half."""
    decision = decide(attempt, draw=lambda low, high: low + (high - low) * fraction)
    assert isinstance(decision, RetryAt)
    waits_ms = decision.due_at_ms - NOW_MS
    step_s = POLICY.steps_s[min(attempt, 3) - 1]
    assert 500 * step_s <= waits_ms <= 1_500 * step_s
