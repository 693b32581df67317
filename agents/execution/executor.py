"""Runs handlers, each kind in its place, and ends what takes too long or is not wanted any more."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from agents.execution.batch_call import error_of
from agents.execution.batch_calls import BatchCalls
from agents.execution.child import CLEANUP_LIMIT_S, over_the_limit
from agents.execution.loop_monitor import LoopMonitor
from agents.execution.processes import HandlerProcesses, cpu_count
from agents.execution.results import encode_result
from agents.execution.threads import HandlerThreads
from app.errors import HandlerCrashed, HandlerError, ProcessDied, TimeLimitExceeded
from app.process import forked
from app.rules.dead_letters import message_of
from ebs.batch_context import BatchContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agents.execution.loading import Handlers, LoadedHandler
    from app.events import TaskCreated
    from ebs.context import Context

__all__ = ["Executor", "encode_result"]

log = logging.getLogger(__name__)

_BLOCK_LIMIT_S = 1.0


class Executor:
    """Runs the handlers of a worker; made in the event loop that they run in. How many run at once is up to the caller.

    Guarantee: whatever a handler does, `run` ends, at the latest with its time limit and 5 s to clean up. `on_freed` is
    called when a handler that was left behind ends after all.
    """

    def __init__(
        self,
        handlers: Handlers,
        *,
        process_count: int = 0,
        block_limit_s: float = _BLOCK_LIMIT_S,
        cleanup_limit_s: float = CLEANUP_LIMIT_S,
    ) -> None:
        """Begin to watch the loop. `process_count` 0 is one process for each CPU.

        `cleanup_limit_s`: how long a cancelled coroutine is waited for.
        """
        self._loop = asyncio.get_running_loop()
        self._cleanup_limit_s = cleanup_limit_s
        self._monitor = LoopMonitor(self._loop, handlers, block_limit_s)
        self.on_freed: Callable[[], None] = lambda: None
        self._threads = HandlerThreads(self._loop, on_freed=self._freed)
        self._processes = HandlerProcesses(
            self._loop,
            _projects_of(handler for handler in handlers if handler.mode == "process"),
            process_count=process_count or cpu_count(),
        )
        self._apart, self._alone = (
            HandlerProcesses(
                self._loop,
                _projects_of(handlers),
                process_count=process_count or cpu_count(),
                apart=True,
                runs_per_process=limit,
            )
            for limit in (0, 1)
        )
        self.calls = BatchCalls(self._run_here)
        self._abandoned_coroutine_count = 0
        self._abandoned_running: set[asyncio.Task[Any]] = set()

    @property
    def abandoned_count(self) -> int:
        """Handlers that were left behind as they did not end when they had to: threads, and stubborn coroutines."""
        return self._threads.abandoned_count + self._abandoned_coroutine_count

    @property
    def abandoned_running_count(self) -> int:
        """Those of them that still run."""
        return self._threads.abandoned_running_count + len(self._abandoned_running)

    async def run(self, loaded: LoadedHandler, _task: TaskCreated, context: Context) -> object:
        """Run a handler and return what it returns; of a process, that is JSON (`msgspec.Raw`).

        Raises what the handler raises; `TimeLimitExceeded`; other `HandlerError`s if it ends in a way that no handler
        should. CancelledError only if this call is cancelled: then the handler is ended as far as that is possible. The
        task of a batch function runs in a call with others, see `batch_calls`.
        """
        if loaded.batch is not None:
            return await self.calls.run(loaded, context)
        return await self._run_here(loaded, context)

    async def _run_here(self, loaded: LoadedHandler, context: Context) -> object:
        context.began_at_s = time.monotonic()
        try:
            match loaded.mode:
                case "coroutine":
                    return await self._run_coroutine(loaded, context)
                case "thread":
                    return await self._run_in_thread(loaded, context)
                case "process":
                    return await self._processes.run(loaded, context)
                case "inline":
                    return loaded.function(context.task, context)
        except (asyncio.CancelledError, TimeLimitExceeded):
            context.cancelled = True
            raise

    async def run_apart(self, loaded: LoadedHandler, _task: TaskCreated, context: Context) -> object:
        """Run a handler, whatever its sort, in another process: it may have ended a worker.

        Raises as `run` does; `HandlerCrashed` if it ends its process, or blocks the event loop that it has for itself.
        The task of a batch function is in a call of its own.
        """
        if loaded.batch is None:
            return await self._run_apart(loaded, context)
        call = BatchContext(context.task, context.time_limit_s, contexts=[context])
        returned: Any = await self._run_apart(loaded, call)
        if (error := error_of(loaded, returned[0])) is not None:
            raise error
        return returned[0]

    async def _run_apart(self, loaded: LoadedHandler, context: Context) -> object:
        context.began_at_s = time.monotonic()
        try:
            try:
                return await self._run_in(self._apart, loaded, context)
            except ProcessDied:
                # Whoever ran there before may have broken the process: in a new one there is no doubt.
                return await self._run_in(self._alone, loaded, context)
        except ProcessDied as error:
            raise HandlerCrashed(
                f"workers died while task {context.task.task_id} ran beside others; run alone, {error}"
            ) from error
        except (asyncio.CancelledError, TimeLimitExceeded):
            context.cancelled = True
            raise

    async def _run_in(self, processes: HandlerProcesses, loaded: LoadedHandler, context: Context) -> object:
        grace_s = 2 * self._cleanup_limit_s if loaded.mode in ("coroutine", "inline") else 0.0
        return await processes.run(loaded, context, grace_s=grace_s)

    async def close(self) -> None:
        """End all threads that can be ended, and kill the processes. Does not wait for handlers."""
        self._monitor.stop()
        self.calls.close()
        self._threads.close()
        await self._processes.close()
        await self._apart.close()
        await self._alone.close()

    async def _run_coroutine(self, loaded: LoadedHandler, context: Context) -> object:
        # In a task of its own, so that a handler that swallows its cancellation can be left behind.
        inner = self._loop.create_task(_only_ordinary_errors(loaded, context))
        try:
            await self._wait(inner, context.time_limit_s)
        except asyncio.CancelledError:
            await self._end_coroutine(inner, loaded, context)
            raise
        if not inner.done():
            await self._end_coroutine(inner, loaded, context)
            raise over_the_limit(loaded.name, context.time_limit_s)
        try:
            return inner.result()
        finally:
            # Its error holds this frame, which holds it: a failure would lie in memory until the collector comes by.
            del inner

    async def _end_coroutine(self, inner: asyncio.Task[Any], loaded: LoadedHandler, context: Context) -> None:
        context.cancelled = True
        inner.cancel()
        try:
            await self._wait(inner, self._cleanup_limit_s)
        finally:
            if inner.done():
                _forget(inner)
            else:
                self._abandoned_coroutine_count += 1
                self._abandoned_running.add(inner)
                inner.add_done_callback(self._abandoned_running.discard)
                inner.add_done_callback(self._freed)
                inner.add_done_callback(_forget)
                log.warning(
                    "handler %s of task %s does not end although it was cancelled, so it is abandoned. It must not "
                    "catch CancelledError",
                    loaded.name,
                    _tasks_of(context),
                )

    def _freed(self, *_: object) -> None:
        self.on_freed()

    async def _run_in_thread(self, loaded: LoadedHandler, context: Context) -> object:
        run = self._threads.start(loaded.function, context)
        try:
            await self._wait(run.ended, context.time_limit_s)
        finally:
            if not run.ended.done():
                self._threads.abandon(run)
                log.warning(
                    "handler %s of task %s still runs in an abandoned thread (%d now). It should check "
                    "context.cancelled",
                    loaded.name,
                    _tasks_of(context),
                    self._threads.abandoned_running_count,
                )
        if not run.ended.done():
            raise over_the_limit(loaded.name, context.time_limit_s)
        value, error = run.ended.result()
        try:
            if error is None:
                return value
            if isinstance(error, Exception):
                raise error
            raise _extraordinary(loaded, error)
        finally:
            # As in `_run_coroutine`.
            del run, error

    async def _wait(self, future: asyncio.Future[Any], limit_s: float) -> None:
        """Wait for a future, at most so long, without cancelling it; half the cost of `asyncio.wait`."""
        waiter = self._loop.create_future()

        def wake(*_: object) -> None:
            if not waiter.done():
                waiter.set_result(None)

        future.add_done_callback(wake)
        timer = self._loop.call_later(limit_s, wake)
        try:
            await waiter
        finally:
            timer.cancel()
            future.remove_done_callback(wake)


def _tasks_of(context: Context) -> str:
    more = len(context.contexts) - 1 if isinstance(context, BatchContext) else 0
    return f"{context.task.task_id} and {more} more" if more else context.task.task_id


def _projects_of(handlers: Iterable[LoadedHandler]) -> list[str]:
    return sorted({handler.address.project for handler in handlers if handler.address is not None})


async def _only_ordinary_errors(loaded: LoadedHandler, context: Context) -> object:
    try:
        return await loaded.function(context.task, context)
    except Exception:
        raise
    # SystemExit would end the event loop, and with it the worker: again and again, as the task would come back. Others,
    # such as the PanicException of a Rust extension, must not be taken for the end of this coroutine either.
    except BaseException as error:
        if context.cancelled and isinstance(error, asyncio.CancelledError | GeneratorExit):
            raise
        raise _extraordinary(loaded, error) from error
    finally:
        forked.end_if_child()


def _extraordinary(loaded: LoadedHandler, error: BaseException) -> HandlerError:
    said = HandlerError(f"handler {loaded.name} raised {type(error).__name__}: {message_of(error)}")
    said.__cause__ = error
    return said


def _forget(task: asyncio.Task[Any]) -> None:
    """Look at a task's error, as asyncio complains of those that nobody has looked at."""
    if not task.cancelled():
        task.exception()
