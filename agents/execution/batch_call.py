"""One call of a batch function, and the attempts in it; `batch_calls` gathers and runs the calls."""

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
"""A call is full when the contents of its tasks have this size, however few they are."""


class CallOutcome(NamedTuple):
    """The result of an attempt, or its error. The error is CancelledError if the attempt has left its call."""

    value: Any
    error: BaseException | None = None


class Member:
    """An attempt in a call. `seen` is the context that the function sees; `on_end` is called with the outcome.

    `seen` is a new context, not `context`, if the attempt is called once more, alone.
    """

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
        """Leave the call. The last attempt to leave waits for the end of the function, unless it is cancelled again."""
        self._leave(self)

    def end(self, outcome: CallOutcome) -> None:
        """Take the outcome. Outputs and progress of a second call, in its own context, count for this attempt."""
        if self.is_ended:
            return
        self.is_ended = True
        if self.seen is not self.context:
            self.context.outputs = self.seen.close_outputs()
            self.context.last_progress = self.seen.last_progress
        self.on_end(outcome)


class BatchCall:
    """A call that gathers attempts, is ready, or runs. `running` is the asyncio task that runs it."""

    __slots__ = ("is_ready", "loaded", "members", "running", "size_bytes", "timer")

    def __init__(self, loaded: LoadedHandler) -> None:
        self.loaded = loaded
        self.members: list[Member] = []
        self.size_bytes = 0
        self.is_ready = False
        self.timer: asyncio.TimerHandle | None = None
        self.running: asyncio.Task[None] | None = None

    def add(self, member: Member) -> None:
        """Add an attempt."""
        member.call = self
        self.members.append(member)
        self.size_bytes += len(member.request.content)

    def stop_timer(self) -> None:
        """Stop waiting for more attempts."""
        if self.timer is not None:
            self.timer.cancel()

    @property
    def is_full(self) -> bool:
        """Whether no other attempt may join."""
        assert self.loaded.batch is not None
        return len(self.members) >= self.loaded.batch.size or self.size_bytes >= MAX_CALL_BYTES


def error_of(loaded: LoadedHandler, returned: object) -> Exception | None:
    """Return the error of a task if the function returned an exception for it, None if it returned a result.

    An exception that is no `Exception`, such as SystemExit, becomes a `HandlerError`: raising it would end the worker.
    """
    if not isinstance(returned, BaseException) or isinstance(returned, Exception):
        return returned if isinstance(returned, Exception) else None
    said = HandlerError(f"handler {loaded.name} returned {type(returned).__name__}: {message_of(returned)}")
    said.__cause__ = returned
    return said
