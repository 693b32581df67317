"""The clocks of the module `time`, as they were when the process started.

Code that runs in a worker may replace them for the whole process, as tools that freeze the time for tests do. Then
heartbeats, time limits and restarts go wrong in every library, long after that code has ended.
"""

from __future__ import annotations

import time

_NAMES = ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep", "time", "time_ns")


class Clocks:
    """Remembers the clocks that there are now."""

    def __init__(self) -> None:
        self._known = {name: getattr(time, name) for name in _NAMES}

    def put_back(self) -> list[str]:
        """Put back what was replaced since; returns the names."""
        replaced = [name for name, clock in self._known.items() if getattr(time, name, None) is not clock]
        for name in replaced:
            setattr(time, name, self._known[name])
        return replaced
