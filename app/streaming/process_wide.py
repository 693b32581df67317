"""What belongs to the whole process: the clocks of the module `time`, and how deep calls may go.

Code that runs in a worker may change them for all others. Tools that freeze the time for tests replace the clocks: then
heartbeats, time limits and restarts go wrong in every library, long after that code has ended. With a low limit of
recursion nothing else in the process works.
"""

from __future__ import annotations

import sys
import time

_CLOCKS = ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep", "time", "time_ns")


class ProcessWide:
    """Remembers how it is now."""

    def __init__(self) -> None:
        self._clocks = {name: getattr(time, name) for name in _CLOCKS}
        self._depth = sys.getrecursionlimit()

    def put_back(self) -> list[str]:
        """Put back what was changed since; returns the names. A higher limit of recursion harms nobody and stays."""
        changed = [name for name, clock in self._clocks.items() if getattr(time, name, None) is not clock]
        for name in changed:
            setattr(time, name, self._clocks[name])
        changed = [f"time.{name}" for name in changed]
        if sys.getrecursionlimit() < self._depth:
            sys.setrecursionlimit(self._depth)
            changed.append("the recursion limit")
        return changed
