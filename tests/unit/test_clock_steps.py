"""A clock that is set while a worker runs is noticed once, whichever way; one that drifts is not."""

from __future__ import annotations

import pytest

from app.streaming.clock_steps import MIN_STEP_S, ClockSteps


class Clocks:
    """A time of day that is set, and a clock that nobody sets."""

    def __init__(self) -> None:
        self.day_s = 1_795_489_276.0
        self.steady_s = 17.0
        self.steps = ClockSteps(lambda: self.day_s, lambda: self.steady_s)

    def look_after(self, seconds: float, *, set_by_s: float = 0.0) -> float:
        """Let time pass, set the clock, and look."""
        self.steady_s += seconds
        self.day_s += seconds + set_by_s
        return self.steps.look()


@pytest.mark.parametrize("set_by_s", [-3_600.0, 3_600.0, MIN_STEP_S])
def test_step_is_told_once(set_by_s):
    """The time that passed between two looks is no step, however long: the process may have been stopped."""
    clocks = Clocks()
    assert 0.0 == clocks.look_after(86_400)
    assert set_by_s == pytest.approx(clocks.look_after(5, set_by_s=set_by_s))
    assert 0.0 == clocks.look_after(5)


def test_drift_is_no_step():
    """As when a time service makes a clock slower or faster."""
    clocks = Clocks()
    assert [0.0] * 100 == [clocks.look_after(5, set_by_s=1) for _ in range(100)]
