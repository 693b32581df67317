"""Each mechanism of exactly-once taken out once: the schedules must find the damage, or they prove nothing."""

import re

import pytest
from simulation.sabotage import SWITCHES
from simulation.schedule import Schedule

MAX_SEEDS = 150
"""Schedules that may find nothing before the one that does."""


@pytest.mark.parametrize("name", SWITCHES)
def test_without_a_mechanism_the_schedules_find_the_damage(name: str) -> None:
    """A schedule in the circumstances of the switch says what the switch does."""
    switch = SWITCHES[name]
    with switch.take_out():
        for seed in range(MAX_SEEDS):
            found = Schedule(seed, **switch.given).run()
            if any(re.search(switch.shows, one) for one in found):
                return
    pytest.fail(f"{MAX_SEEDS} schedules without {name} and nothing like {switch.shows!r} was found")
