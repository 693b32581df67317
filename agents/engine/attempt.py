"""One attempt at a task, from its start to its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agents.engine.event_fields import common_of, task_identity_of

if TYPE_CHECKING:
    import asyncio

    from agents.engine.lane import Ready
    from agents.engine.lane_lines import Place
    from agents.execution.batch_call import Member
    from agents.execution.loading import LoadedHandler
    from app.telemetry.tracing import Trace
    from ebs.context import Context


class Attempt:
    """One run of the handler: its task, how long it waited (ms) and when it began (monotonic, s)."""

    traced: Trace | None = None
    """The span of this attempt; only a `TracedAttempt` may have one."""

    __slots__ = (
        "began_at_s",
        "cancel_reason",
        "cancelled_early",
        "common",
        "context",
        "identity",
        "is_inside",
        "key",
        "lane",
        "loaded",
        "next_turn",
        "place",
        "record",
        "running",
        "task",
        "wait_ms",
    )

    def __init__(self, ready: Ready, wait_ms: int, context: Context, loaded: LoadedHandler) -> None:
        self.lane, self.record, self.task, self.place = ready
        self.wait_ms = wait_ms
        self.context = context
        self.loaded = loaded
        # What every event of this attempt has: made once, this is the inner loop of handlers that take no time.
        self.identity = task_identity_of(ready.task)
        self.common = common_of(ready.task)
        self.key = ready.task.object_id.encode()
        self.began_at_s = time.perf_counter()
        self.cancel_reason: str | None = None
        self.next_turn: tuple[bytes, Place] | None = None
        """The line whose later tasks wait for the next attempt, and the place of that one."""
        self.running: asyncio.Task[None] | Member | None = None
        self.is_inside = False
        self.cancelled_early = False

    def cancel(self) -> None:
        """Cancel the run. One whose coroutine has not begun hears it then: asyncio would end it without a word."""
        if self.is_inside:
            assert self.running is not None
            self.running.cancel()
        else:
            self.cancelled_early = True

    def begin_with_its_call(self) -> None:
        """Count the time until the call of a batch function began as waiting, not as work."""
        if self.context.began_at_s:
            now_s = time.perf_counter()
            began_at_s = max(self.began_at_s, now_s - (time.monotonic() - self.context.began_at_s))
            self.wait_ms += round((began_at_s - self.began_at_s) * 1_000)
            self.began_at_s = began_at_s

    def spent_ms(self) -> int:
        """Return the time really spent until now."""
        return round((time.perf_counter() - self.began_at_s) * 1000)
