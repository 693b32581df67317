"""The log lines about failed and dead tasks: readable even if thousands of tasks fail in a second.

A line costs as much as a task: if one task in a hundred dies, one line each would cost 4 % of the throughput (2026-11,
`make bench-engine BENCH="--only poison"`), and hide all other lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.telemetry.quiet_log import Alike, alike_before

if TYPE_CHECKING:
    import logging
    from collections.abc import Hashable

    from app.events import TaskCreated

_SILENCE_S = 1.0
_LINES_PER_S = 20
"""Of errors that are not alike: a text may have random words in it, and then no two are."""


class FailureStory:
    """Logs failures: at most one a second with the same fingerprint, and at most `_LINES_PER_S` in all.

    Each line says how many equal failures, and how many others, were left out before it.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._alike = Alike(_SILENCE_S)
        self._second = float("-inf")
        self._told_count = 0
        self._untold_count = 0

    def tell(self, alike: Hashable, now_s: float, text: str, *arguments: object) -> None:
        """Log a failure, or count it; `alike` is the same for failures that are, `now_s` of any steady clock."""
        untold_count = self._alike.untold_before(alike, now_s)
        if untold_count is None:
            return
        if now_s - self._second >= 1:
            self._second, self._told_count = now_s, 0
        if self._told_count >= _LINES_PER_S:
            self._untold_count += 1 + untold_count
            return
        self._told_count += 1
        others, self._untold_count = self._untold_count, 0
        more = f" ({others} more were not logged)" if others else ""
        self._log.warning(f"{text}%s%s", *arguments, alike_before(untold_count), more)


def describe(task: TaskCreated) -> str:
    """Return a task and its attempt in words."""
    return f"task {task.task_id} of object {task.object_id}, kind {task.kind}, attempt {task.attempt}"
