"""Gathers the attempts of a batch function into calls: one call for many tasks, an outcome for each.

An attempt joins the call of its function that is being gathered. The call is ready when it is full, or when its first
attempt has waited for `batch_wait_s`; it starts when the pool has a place for it, and others may join until then.

| the call | its attempts |
| --- | --- |
| returns a list | each has its result, or fails with the exception in its place |
| raises `Retry` | each fails with it, except those in their last attempt |
| ends otherwise: raises, is over its time limit, its process dies, returns something else | each is called alone, at \
once, in the same attempt; what happens then is its outcome |

So no task is dead because of another one. An attempt that is cancelled leaves its call, which goes on for the others;
a call that nobody is in any more is cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from agents.failure_story import FailureStory
from app.errors import HandlerError
from app.rules.dead_letters import message_of, type_name_of
from app.rules.fingerprint import fingerprint
from ebs.batch_context import BatchContext
from ebs.context import Context
from ebs.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from agents.execution.loading import LoadedHandler
    from app.events import TaskCreated

log = logging.getLogger(__name__)

MAX_CALL_BYTES = 16 << 20
"""Of the contents of a call: it is full with fewer tasks if these are large."""


class _Outcome(NamedTuple):
    """The result of a task, or its error."""

    value: Any
    error: Exception | None = None


class _Member:
    """An attempt in a call: its context, and the one that the function sees; `ended` gets its outcome."""

    __slots__ = ("call", "context", "ended", "request", "seen")

    def __init__(self, context: Context, ended: asyncio.Future[_Outcome]) -> None:
        self.request = cast("TaskCreated", context.task)
        self.context = self.seen = context
        self.ended = ended
        self.call: _Call


class _Call:
    """A call that is gathered, is ready, or runs."""

    __slots__ = ("is_ready", "loaded", "members", "running", "size_bytes", "timer")

    def __init__(self, loaded: LoadedHandler, members: Iterable[_Member] = ()) -> None:
        self.loaded = loaded
        self.members: list[_Member] = []
        self.size_bytes = 0
        self.is_ready = False
        self.timer: asyncio.TimerHandle | None = None
        self.running: asyncio.Task[None] | None = None
        for one in members:
            self.add(one)

    def add(self, member: _Member) -> None:
        member.call = self
        self.members.append(member)
        self.size_bytes += memoryview(member.request.content).nbytes

    @property
    def is_full(self) -> bool:
        assert self.loaded.batch is not None
        return len(self.members) >= self.loaded.batch.size or self.size_bytes >= MAX_CALL_BYTES


class BatchCalls:
    """The calls of one event loop. `run_call` runs the function once for a `BatchContext`, see `Executor`.

    `has_place` says whether a call may start now, `on_ended` hears of each call that has ended.
    """

    def __init__(self, run_call: Callable[[LoadedHandler, BatchContext], Coroutine[Any, Any, object]]) -> None:
        self.has_place: Callable[[], bool] = lambda: True
        self.on_ended: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._run_call = run_call
        self._gathered: dict[int, _Call] = {}
        self._ready: deque[_Call] = deque()
        self._running: set[_Call] = set()
        # A call belongs to no attempt's trace.
        self._within = contextvars.copy_context()
        self._story = FailureStory(log)

    @property
    def running_count(self) -> int:
        """Calls that run."""
        return len(self._running)

    @property
    def ready_count(self) -> int:
        """Calls that could run if there was a place."""
        return len(self._ready)

    @property
    def waiting_count(self) -> int:
        """Attempts that are in no call that runs."""
        waiting = {id(call): call for call in (*self._gathered.values(), *self._ready)}
        return sum(len(call.members) for call in waiting.values())

    async def run(self, loaded: LoadedHandler, context: Context) -> object:
        """Run an attempt in a call with others, and return its result. Raises its error."""
        member = _Member(context, self._loop.create_future())
        self._join(loaded, member)
        try:
            value, error = await member.ended
        except asyncio.CancelledError:
            await self._leave(member)
            raise
        if error is None:
            return value
        try:
            raise error
        finally:
            # Its trace holds this frame, which holds it: a failure would lie in memory until the collector comes by.
            del error, member

    def start_ready(self) -> None:
        """Start the calls that are ready, as far as there are places."""
        while self._ready and self.has_place():
            call = self._ready.popleft()
            self._close(call)
            self._running.add(call)
            call.running = self._loop.create_task(self._run(call), context=self._within.copy())

    def hurry(self) -> None:
        """Let the calls that are being gathered wait no longer: the worker stops."""
        for call in list(self._gathered.values()):
            self._is_due(call)

    def close(self) -> None:
        """End everything; the attempts have been cancelled before."""
        for call in self._gathered.values():
            _stop_timer(call)
        self._gathered.clear()
        self._ready.clear()
        for call in self._running:
            if call.running is not None:
                call.running.cancel()

    def _join(self, loaded: LoadedHandler, member: _Member) -> None:
        assert loaded.batch is not None
        call = self._gathered.get(id(loaded))
        if call is None:
            call = self._gathered[id(loaded)] = _Call(loaded)
            call.timer = self._loop.call_later(loaded.batch.wait_s, self._is_due, call)
        call.add(member)
        if call.is_full:
            self._close(call)
            self._is_due(call)

    def _is_due(self, call: _Call) -> None:
        _stop_timer(call)
        if not call.is_ready:
            call.is_ready = True
            self._ready.append(call)
        self.start_ready()

    def _close(self, call: _Call) -> None:
        """Let nobody join a call any more."""
        if self._gathered.get(id(call.loaded)) is call:
            del self._gathered[id(call.loaded)]

    async def _leave(self, member: _Member) -> None:
        """Take a cancelled attempt out of its call; wait for the end of a call that nobody is in any more."""
        call = member.call
        member.seen.cancelled = True
        if call.running is None:
            call.members.remove(member)
            if not call.members:
                self._close(call)
                _stop_timer(call)
                if call.is_ready:
                    self._ready.remove(call)
            return
        if not call.running.done() and all(one.ended.done() for one in call.members):
            call.running.cancel()
            try:
                await asyncio.wait((call.running,))
            except asyncio.CancelledError:
                call.running.cancel()
                raise

    async def _run(self, call: _Call) -> None:
        now_s = time.monotonic()
        for one in call.members:
            one.seen.began_at_s = now_s
            one.context.began_at_s = one.context.began_at_s or now_s
        try:
            outcomes = await self._outcomes(call)
        except asyncio.CancelledError:
            for one in call.members:
                one.ended.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # whatever a function raises is for those who wait
            self._failed(call, error)
        else:
            for one, outcome in zip(call.members, outcomes, strict=True):
                _end(one, outcome)
        finally:
            self._running.discard(call)
            self.start_ready()
            self.on_ended()

    async def _outcomes(self, call: _Call) -> list[_Outcome]:
        loaded, contexts = call.loaded, [one.seen for one in call.members]
        context = BatchContext(contexts[0].task, contexts[0].time_limit_s, contexts=contexts)
        returned: Any = await self._run_call(loaded, context)
        return [_Outcome(one, error_of(loaded, one)) for one in returned]

    def _failed(self, call: _Call, error: Exception) -> None:
        """End the attempts of a call with its error, or call each of them alone."""
        is_shared, asks_to_wait = len(call.members) > 1, isinstance(error, Retry)
        last = call.loaded.limits.retry.max_attempts
        alone_count = 0
        for one in call.members:
            # What is left of the call, such as a thread that nobody can end, must produce nothing any more.
            one.seen.cancelled = True
            if one.ended.done():
                continue
            if is_shared and not (asks_to_wait and one.request.attempt < last):
                self._call_alone(call.loaded, one)
                alone_count += 1
            else:
                _end(one, _Outcome(None, error))
        if alone_count:
            self._tell(call, alone_count, error)

    def _call_alone(self, loaded: LoadedHandler, member: _Member) -> None:
        member.seen = Context(member.request, member.context.time_limit_s, rules=member.context.rules)
        again = _Call(loaded, (member,))
        again.is_ready = True
        self._ready.append(again)

    def _tell(self, call: _Call, alone_count: int, error: Exception) -> None:
        name, error_type, message = call.loaded.name, type_name_of(error), message_of(error)
        text = "a call of handler %s with %d tasks failed, so %d of them are called alone: %s: %s"
        alike = (name, fingerprint(error_type, message))
        self._story.tell(alike, time.monotonic(), text, name, len(call.members), alone_count, error_type, message)


def _end(member: _Member, outcome: _Outcome) -> None:
    """Tell an attempt its outcome; what it has produced and said in another call's context counts as its own."""
    if member.ended.done():
        return
    if member.seen is not member.context:
        member.context.outputs = member.seen.close_outputs()
        member.context.last_progress = member.seen.last_progress
    member.ended.set_result(outcome)


def error_of(loaded: LoadedHandler, returned: object) -> Exception | None:
    """Return the error that stands for a task in a function's list, None for a result.

    One that nobody may raise, such as SystemExit, is told.
    """
    if not isinstance(returned, BaseException) or isinstance(returned, Exception):
        return returned if isinstance(returned, Exception) else None
    said = HandlerError(f"handler {loaded.name} returned {type(returned).__name__}: {message_of(returned)}")
    said.__cause__ = returned
    return said


def _stop_timer(call: _Call) -> None:
    if call.timer is not None:
        call.timer.cancel()
