"""One call of a batch function, and the attempts in it; `batch_calls` gathers and runs calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from app.errors import HandlerError
from app.rules.dead_letters import message_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from agents.execution.loading import LoadedHandler
    from app.events import TaskCreated
    from ebs.context import Context

MAX_CALL_BYTES = 16 << 20
"""Of the contents of a call: it is full with fewer tasks if these are large."""


class CallOutcome(NamedTuple):
    """The result of an attempt, or its error; CancelledError for one that has left its call."""

    value: Any
    error: BaseException | None = None


class Member:
    """An attempt in a call: its context, and the one that the function sees; `on_end` hears of its outcome."""

    __slots__ = ("_leave", "call", "context", "is_ended", "is_leaving", "on_end", "request", "seen")

    def __init__(
        self, context: Context, on_end: Callable[[CallOutcome], None], leave: Callable[[Member], None]
    ) -> None:
        self.request = cast("TaskCreated", context.task)
        self.context = self.seen = context
        self.on_end = on_end
        self._leave = leave
        self.is_ended = self.is_leaving = False
        self.call: BatchCall

    def cancel(self) -> None:
        """Leave the call; the last one that does so waits for the end of its function, unless it is asked again."""
        self._leave(self)

    def end(self, outcome: CallOutcome) -> None:
        """Hear the outcome; what was produced and said in another call's context counts as this attempt's."""
        if self.is_ended:
            return
        self.is_ended = True
        if self.seen is not self.context:
            self.context.outputs = self.seen.close_outputs()
            self.context.last_progress = self.seen.last_progress
        self.on_end(outcome)


class BatchCall:
    """A call that is gathered, is ready, or runs; `running` is what runs it."""

    __slots__ = ("is_ready", "loaded", "members", "running", "size_bytes", "timer")

    def __init__(self, loaded: LoadedHandler) -> None:
        self.loaded = loaded
        self.members: list[Member] = []
        self.size_bytes = 0
        self.is_ready = False
        self.timer: asyncio.TimerHandle | None = None
        self.running: asyncio.Task[None] | None = None

    def add(self, member: Member) -> None:
        """Take an attempt in."""
        member.call = self
        self.members.append(member)
        self.size_bytes += len(member.request.content)

    def stop_timer(self) -> None:
        """Wait no longer."""
        if self.timer is not None:
            self.timer.cancel()

    @property
    def is_full(self) -> bool:
        """Whether nobody else may join."""
        assert self.loaded.batch is not None
        return len(self.members) >= self.loaded.batch.size or self.size_bytes >= MAX_CALL_BYTES


def error_of(loaded: LoadedHandler, returned: object) -> Exception | None:
    """Return the error that stands for a task in a function's list, None for a result.

    One that nobody may raise, such as SystemExit, is told.
    """
    if not isinstance(returned, BaseException) or isinstance(returned, Exception):
        return returned if isinstance(returned, Exception) else None
    said = HandlerError(f"handler {loaded.name} returned {type(returned).__name__}: {message_of(returned)}")
    said.__cause__ = returned
    return said
