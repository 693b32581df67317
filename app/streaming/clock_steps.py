"""Notices when somebody sets the clock of the machine while a process runs: what waits is due by the time of day."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_STEP_S = 10.0
"""Smaller changes are what a time service does all the time."""


class ClockSteps:
    """Compares the time of day with a clock that nobody sets."""

    def __init__(
        self,
        time_of_day: Callable[[], float] = lambda: time.time(),  # noqa: PLW0108  # a test may have replaced it since
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._time_of_day = time_of_day
        self._steady = steady
        self._ahead_s = self._read()

    def look(self) -> float:
        """Return by how many seconds the clock was set since the last look, 0 if by less than `MIN_STEP_S`."""
        before_s, self._ahead_s = self._ahead_s, self._read()
        step_s = self._ahead_s - before_s
        return step_s if abs(step_s) >= MIN_STEP_S else 0.0

    def _read(self) -> float:
        return self._time_of_day() - self._steady()
