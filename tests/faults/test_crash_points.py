"""A worker that dies, or freezes beyond its session, at each point of a step.

Objects are being split, worked, joined and submitted by joins then: nothing is lost, nothing counts twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fleet import ROLES, Fleet
from sabotage_run import MIDST, run_sabotaged

if TYPE_CHECKING:
    from ebs.local.embedded_kafka import EmbeddedKafka

POINTS = ("begun", "sent", "offered", "committed", "applied")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("role", ROLES)
async def test_kill_at_a_point(broker: EmbeddedKafka, fleet: Fleet, role: str, point: str) -> None:
    """A step is done wholly or not at all, wherever its worker dies."""
    found = await run_sabotaged(broker, fleet, role, SABOTAGE_AT=f"{point}:{MIDST}")
    assert [] == found, "\n".join([*found, fleet.last_words()])


@pytest.mark.parametrize("point", ["begun", "offered"])
@pytest.mark.parametrize("role", ROLES)
async def test_freeze_at_a_point(broker: EmbeddedKafka, fleet: Fleet, role: str, point: str) -> None:
    """A worker that wakes up with a step in hand after others took over commits nothing of it."""
    found = await run_sabotaged(
        broker, fleet, role, second_worker=True, SABOTAGE_AT=f"{point}:{MIDST}", SABOTAGE_BY="freeze"
    )
    assert [] == found, "\n".join([*found, fleet.last_words()])
