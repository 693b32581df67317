"""Gathers the attempts of a batch function into calls: one call for many tasks, an outcome for each.

An attempt joins the open call of its function. The call is ready when it is full, or when its first attempt has waited
for `batch_wait_s`. It starts when the pool has a place for it; until then other attempts may join.

| the call | its attempts |
| --- | --- |
| returns a list | each has the result in its place, or fails with the exception there |
| raises `Retry` | each fails with it, except those in their last attempt: they are called alone |
| ends otherwise: raises, is over its time limit, its process dies, returns something else | each is called alone, at \
once, in the same attempt; the outcome of that call counts |

So no task dies because of another task. A cancelled attempt leaves its call, which goes on for the others. A call
without attempts is cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from agents.execution.batch_call import BatchCall, CallOutcome, Member, error_of
from agents.failure_story import FailureStory
from app.rules.dead_letters import message_of, type_name_of
from app.rules.fingerprint import fingerprint
from ebs.batch_context import BatchContext
from ebs.context import Context
from ebs.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agents.execution.loading import LoadedHandler

log = logging.getLogger(__name__)


class BatchCalls:
    """The calls of one event loop. `run_call` runs the function once for a `BatchContext`, see `Executor`.

    `has_place` returns whether a call may start now. `on_ended` is called when a call has ended.
    """

    def __init__(self, run_call: Callable[[LoadedHandler, BatchContext], Coroutine[Any, Any, object]]) -> None:
        self.has_place: Callable[[], bool] = lambda: True
        self.on_ended: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._run_call = run_call
        self._gathered: dict[int, BatchCall] = {}
        self._ready: deque[BatchCall] = deque()
        self._running: dict[BatchCall, None] = {}
        # A call is for several attempts, so it is in the trace of none of them.
        self._within = contextvars.copy_context()
        self._story = FailureStory(log)

    @property
    def running_count(self) -> int:
        """Number of calls that run."""
        return len(self._running)

    @property
    def ready_count(self) -> int:
        """Number of calls that would run if there were a place."""
        return len(self._ready)

    @property
    def waiting_count(self) -> int:
        """Number of attempts whose call does not run yet."""
        waiting = {id(call): call for call in (*self._gathered.values(), *self._ready)}
        return sum(len(call.members) for call in waiting.values())

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The asyncio tasks that run calls now."""
        return [call.running for call in self._running if call.running is not None]

    async def run(self, loaded: LoadedHandler, context: Context) -> object:
        """Run an attempt in a call with others, and return its result. Raises its error."""
        value, error = await self._end_of(loaded, context)
        if error is None:
            return value
        try:
            raise error
        finally:
            # The traceback of the error holds this frame, and the frame the error: without this the error would stay in
            # memory until the garbage collector runs.
            del error

    async def _end_of(self, loaded: LoadedHandler, context: Context) -> CallOutcome:
        ended: asyncio.Future[CallOutcome] = self._loop.create_future()
        member = self.join(loaded, context, ended.set_result)
        while not ended.done():
            try:
                await asyncio.shield(ended)
            except asyncio.CancelledError:
                member.cancel()
        return ended.result()

    def join(self, loaded: LoadedHandler, context: Context, on_end: Callable[[CallOutcome], None]) -> Member:
        """Add an attempt to the open call of its function."""
        assert loaded.batch is not None
        member = Member(context, on_end, self.leave)
        call = self._gathered.get(id(loaded))
        if call is None:
            call = self._gathered[id(loaded)] = BatchCall(loaded)
            call.timer = self._loop.call_later(loaded.batch.wait_s, self._is_due, call)
        call.add(member)
        if call.is_full:
            self._close(call)
            self._is_due(call)
        return member

    def leave(self, member: Member) -> None:
        """Take a cancelled attempt out of its call. If no other attempt is left in it, cancel the call."""
        call = member.call
        member.seen.cancelled = True
        is_asked_again, member.is_leaving = member.is_leaving, True
        if call.running is None:
            self._take_out(member)
        elif not call.running.done() and all(one.is_ended or one.is_leaving for one in call.members):
            call.running.cancel()
            if not is_asked_again:
                return
        # Not at once: the caller may be iterating over the running attempts.
        self._loop.call_soon(member.end, _cancelled())

    def start_ready(self) -> None:
        """Start ready calls while there are places."""
        while self._ready and self.has_place():
            call = self._ready.popleft()
            self._close(call)
            self._running[call] = None
            call.running = self._loop.create_task(self._run(call), context=self._within.copy())
            call.running.add_done_callback(partial(self._ended, call))

    def hurry(self) -> None:
        """Make all open calls ready, as the worker stops."""
        for call in list(self._gathered.values()):
            self._is_due(call)

    def close(self) -> None:
        """End all calls. The caller has cancelled the attempts before."""
        for call in self._gathered.values():
            call.stop_timer()
        self._gathered.clear()
        self._ready.clear()
        for one in self.tasks:
            one.cancel()

    def _is_due(self, call: BatchCall) -> None:
        call.stop_timer()
        if not call.is_ready:
            call.is_ready = True
            self._ready.append(call)
        self.start_ready()

    def _close(self, call: BatchCall) -> None:
        """Let no more attempts join a call."""
        if self._gathered.get(id(call.loaded)) is call:
            del self._gathered[id(call.loaded)]

    def _take_out(self, member: Member) -> None:
        call = member.call
        if member not in call.members:
            return
        call.members.remove(member)
        if not call.members:
            self._close(call)
            call.stop_timer()
            if call.is_ready:
                self._ready.remove(call)

    async def _run(self, call: BatchCall) -> None:
        now_s = time.monotonic()
        for one in call.members:
            one.seen.began_at_s = now_s
            one.context.began_at_s = one.context.began_at_s or now_s
        try:
            outcomes = await self._outcomes(call)
        except Exception as error:  # noqa: BLE001  # whatever a function raises is the outcome of its attempts
            self._failed(call, error)
        else:
            for one, outcome in zip(call.members, outcomes, strict=True):
                one.end(outcome)

    def _ended(self, call: BatchCall, _: object) -> None:
        for one in call.members:
            if one.call is call:
                one.end(_cancelled())  # the call was cancelled, perhaps before it began
        del self._running[call]
        self.start_ready()
        self.on_ended()

    async def _outcomes(self, call: BatchCall) -> list[CallOutcome]:
        loaded, contexts = call.loaded, [one.seen for one in call.members]
        context = BatchContext(contexts[0].task, contexts[0].time_limit_s, contexts=contexts)
        returned: Any = await self._run_call(loaded, context)
        return [CallOutcome(one, error_of(loaded, one)) for one in returned]

    def _failed(self, call: BatchCall, error: Exception) -> None:
        """End the attempts of a call with its error, or call each of them alone."""
        is_shared, asks_to_wait = len(call.members) > 1, isinstance(error, Retry)
        last = call.loaded.limits.retry.max_attempts
        alone_count = 0
        for one in call.members:
            # The rest of the call, such as a thread that cannot be ended, must not produce anything any more.
            one.seen.cancelled = True
            if one.is_ended or one.is_leaving:
                continue
            if is_shared and not (asks_to_wait and one.request.attempt < last):
                self._call_alone(call.loaded, one)
                alone_count += 1
            else:
                one.end(CallOutcome(None, error))
        if alone_count:
            self._tell(call, alone_count, error)

    def _call_alone(self, loaded: LoadedHandler, member: Member) -> None:
        member.seen = Context(member.request, member.context.time_limit_s, rules=member.context.rules)
        again = BatchCall(loaded)
        again.add(member)
        again.is_ready = True
        self._ready.append(again)

    def _tell(self, call: BatchCall, alone_count: int, error: Exception) -> None:
        name, error_type, message = call.loaded.name, type_name_of(error), message_of(error)
        text = "a call of handler %s with %d tasks failed, so %d of them are called alone: %s: %s"
        alike = (name, fingerprint(error_type, message))
        self._story.tell(alike, time.monotonic(), text, name, len(call.members), alone_count, error_type, message)


def _cancelled() -> CallOutcome:
    return CallOutcome(None, asyncio.CancelledError())
