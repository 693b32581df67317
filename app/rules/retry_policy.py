"""What becomes of a task whose attempt failed: another attempt after a while, or death.

Where a function names its backoff, that many seconds. Else the steps of EBS_BACKOFF_S (1 s, 10 s, 60 s by default; the
last one repeats), each pause drawn evenly from half to one and a half times its step, so that what failed together does
not come back together (AWS Architecture Blog: "Exponential Backoff And Jitter"). A task is given up after
`max_attempts` attempts, the first one included, or once it is older than `max_age_ms`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ebs.function import Backoff


class RetryAt(NamedTuple):
    """Try again: when the next attempt is due (epoch ms)."""

    due_at_ms: int


class GiveUp(NamedTuple):
    """The task is dead, and why."""

    reason: str


class RetryPolicy(NamedTuple):
    """When to try again and when to give up."""

    steps_s: Sequence[float]
    max_attempts: int
    max_age_ms: int
    backoff: Backoff | None = None

    def decide(
        self,
        *,
        attempt: int,
        created_at_ms: int,
        now_ms: int,
        asked_delay_s: float | None,
        draw: Callable[[float, float], float],
    ) -> RetryAt | GiveUp:
        """Decide after a failed `attempt` (from 1); `asked_delay_s` is what the task itself asked for, if it did."""
        if attempt >= self.max_attempts:
            return GiveUp(f"all {self.max_attempts} attempts failed")
        if asked_delay_s is None:
            asked_delay_s = self._backoff_s(attempt)
        if asked_delay_s is None:
            delay_ms = round(self.steps_s[min(attempt, len(self.steps_s)) - 1] * 1_000 * draw(0.5, 1.5))
        else:
            delay_ms = round(max(0.0, asked_delay_s) * 1_000)
        due_at_ms = now_ms + delay_ms
        if due_at_ms - created_at_ms > self.max_age_ms:
            return GiveUp(f"the next attempt would start {self.max_age_ms // 3_600_000} h after the task was created")
        return RetryAt(due_at_ms)

    def _backoff_s(self, attempt: int) -> float | None:
        """Return what the function's own back-off says, None if there is none, or a user's function says nonsense."""
        backoff = self.backoff
        if callable(backoff):
            try:
                delay_s = backoff(attempt)
            except BaseException:  # noqa: BLE001  # the task has failed already, with an error that tells more
                return None
            return delay_s if isinstance(delay_s, int | float) and 0 <= delay_s < math.inf else None
        if backoff is None or isinstance(backoff, int | float):
            return backoff
        return backoff[min(attempt, len(backoff)) - 1]
