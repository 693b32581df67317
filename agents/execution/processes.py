"""Processes for @cpu_bound handlers: as many as there are CPUs, each killed when its run is not wanted any more.

They are spawned, not forked: a copy of a process with Kafka's connections and threads may hang or write to them.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import pickle
import time
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING, cast

import msgspec
import pebble

from agents.execution.child import Call, News, encode_call, over_the_limit, prepare_process, run_handler
from agents.execution.stopped import StoppedProcesses
from app.errors import HandlerCrashed, HandlerError, NoProcess, ProcessDied, TimeLimitExceeded
from ebs.batch_context import BatchContext
from ebs.context import ReportedProgress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agents.execution.child import Answer
    from agents.execution.loading import LoadedHandler
    from app.events import TaskCreated
    from ebs.context import Context

log = logging.getLogger(__name__)

_POOL_CHECK_S = 1.0
"""How often a run looks whether its pool still works: tasks on the way into a pool that breaks are never answered."""
_TRIES = 3
"""Of a run whose pool breaks before it begins, which is nothing that the task has done."""
_NEWS_BYTES = 65_536

_decode_news = msgspec.json.Decoder(News).decode


def cpu_count() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class HandlerProcesses:
    """Runs handlers by their addresses in a pool of processes, which is started by the first run."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        projects: Sequence[str],
        *,
        process_count: int,
        apart: bool = False,
        runs_per_process: int = 0,
    ) -> None:
        """Prepare for functions of `projects`; `apart`: one of them ends its process. 0 runs are no limit."""
        self._apart = apart
        self._runs_per_process = runs_per_process
        self._loop = loop
        self._projects = projects
        self._process_count = process_count
        self._pool: pebble.ProcessPool | None = None
        self._starting = asyncio.Lock()
        # A run waits for a process here and not in the pool: there its time would run, and cancelling would kill.
        self._free = asyncio.Semaphore(process_count)
        self._next_run_id = 0
        self._contexts: dict[int, Context] = {}
        self._spawn = multiprocessing.get_context("spawn")
        self._news_from, self._news_to = self._spawn.Pipe(duplex=False)
        os.set_blocking(self._news_from.fileno(), False)
        os.set_blocking(self._news_to.fileno(), False)
        loop.add_reader(self._news_from, self._read_news)
        self._unread = b""
        self._stopped = StoppedProcesses()
        self._looked_at_s = 0.0
        self._closed = False

    async def run(self, loaded: LoadedHandler, context: Context, *, grace_s: float = 0.0) -> object:
        """Run a handler, once a process is free, and return its result as JSON (`msgspec.Raw`).

        Of a batch, return a result or an error for each task.

        Raises what the handler raises, `TimeLimitExceeded`, `ProcessDied` or `NoProcess`; cancelling kills the process.
        One with a `grace_s` has to mind its time limit itself: if it is so much over it, that is `HandlerCrashed`.
        """
        contexts = context.contexts if isinstance(context, BatchContext) else [context]
        run_id = self._next_run_id
        self._next_run_id += len(contexts)
        self._contexts.update(enumerate(contexts, run_id))
        limit_bytes, is_async = loaded.limits.max_result_bytes, loaded.mode == "coroutine"
        assert loaded.address is not None  # the caller asks before
        call = encode_call(
            Call(
                run_id,
                loaded.address,
                loaded.name,
                [cast("TaskCreated", one.task) for one in contexts],
                context.time_limit_s,
                limit_bytes,
                loaded.limits.outputs,
                is_async,
                is_batch=loaded.batch is not None,
            )
        )
        try:
            async with self._free:
                answer = await self._answer(loaded.name, call, context.time_limit_s, grace_s)
        finally:
            for number in range(run_id, run_id + len(contexts)):
                del self._contexts[number]
        if isinstance(answer, list):
            return [_outcome(one, of) for one, of in zip(answer, contexts, strict=True)]
        if answer.error_text:
            raise _error_of(answer)
        return _outcome(answer, context)

    async def close(self) -> None:
        """Kill the processes. Runs that are not cancelled before fail with `NoProcess` or `ProcessDied`."""
        async with self._starting:
            self._closed = True
            await self._end_pool()
        self._loop.remove_reader(self._news_from)
        self._news_from.close()
        self._news_to.close()

    async def _answer(self, name: str, call: bytes, time_limit_s: float, grace_s: float) -> Answer | list[Answer]:
        for _ in range(_TRIES):
            try:
                return await self._ask(await self._running_pool(), call, time_limit_s + grace_s)
            except TimeoutError:
                # A handler's own TimeoutError is part of an answer.
                if grace_s:
                    said = f"{over_the_limit(name, time_limit_s)} and blocked its event loop: its process was killed"
                    raise HandlerCrashed(said) from None
                raise TimeLimitExceeded(f"{over_the_limit(name, time_limit_s)}: its process was killed") from None
            except pebble.ProcessExpired as error:
                raise ProcessDied(
                    f"the process of handler {name} ended with exit code {error.exitcode} (below 0: killed by that "
                    "signal; -9 often means out of memory, or that it had stopped itself)"
                ) from error
            except BrokenProcessPool as error:
                log.warning("the pool of handler processes broke and is restarted: %s", error)
        raise NoProcess(f"the processes of handler {name} do not start, see their output above")

    async def _ask(self, pool: pebble.ProcessPool, call: bytes, time_limit_s: float) -> Answer | list[Answer]:
        try:
            future = asyncio.wrap_future(pool.schedule(run_handler, args=(call,), timeout=time_limit_s))
        except RuntimeError as error:  # it broke since we looked
            raise BrokenProcessPool(str(error)) from error
        try:
            while not future.done():
                await asyncio.wait((future,), timeout=_POOL_CHECK_S)
                if not future.done() and not pool.active:
                    raise BrokenProcessPool("it stopped without an answer")
                self._kill_stopped(pool)
            return future.result()
        finally:
            # Makes the pool kill the process, within 0.1 s, if it has not answered.
            future.cancel()

    def _kill_stopped(self, pool: pebble.ProcessPool) -> None:
        now_s = self._loop.time()
        if now_s - self._looked_at_s >= _POOL_CHECK_S:
            self._looked_at_s = now_s
            self._stopped.look(list(pool._pool_manager.worker_manager.workers))  # noqa: SLF001  # pebble names its processes nowhere else

    async def _running_pool(self) -> pebble.ProcessPool:
        async with self._starting:
            if self._closed:
                raise NoProcess("the processes are closed already")
            if self._pool is None or not self._pool.active:
                await self._end_pool()
                self._pool = await self._start_pool()
            return self._pool

    async def _start_pool(self) -> pebble.ProcessPool:
        # The processes ignore SIGTERM (`child.prepare_process`), so waiting for its effect is waiting for nothing.
        pebble.CONSTS.term_timeout = 0.01
        level = logging.getLogger("agents").getEffectiveLevel()
        pool = pebble.ProcessPool(
            max_workers=self._process_count,
            max_tasks=self._runs_per_process,
            initializer=partial(prepare_process, apart=self._apart),
            initargs=(self._projects, self._news_to, level),
            context=self._spawn,
        )
        # Looking at it starts the processes, which takes too long for the event loop.
        await asyncio.to_thread(getattr, pool, "active")
        return pool

    async def _end_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(_end, pool)

    def _read_news(self) -> None:
        try:
            self._unread += os.read(self._news_from.fileno(), _NEWS_BYTES)
        except BlockingIOError:
            return
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            news = _decode_news(line)
            context = self._contexts.get(news.run_id)
            if context is not None:
                context.last_progress = ReportedProgress(news.fraction, news.message, time.monotonic())


def _outcome(answer: Answer, context: Context) -> object:
    """Return a result, with what else was produced in its context; or the error of a task of a batch."""
    if answer.error_text:
        return _error_of(answer)
    context.outputs = answer.outputs
    return msgspec.Raw(answer.result)


def _error_of(answer: Answer) -> Exception:
    error: object = None
    if answer.pickled_error:
        try:
            error = pickle.loads(answer.pickled_error)  # noqa: S301  # our own process wrote it
        # Some can be read back in that process only, such as those of a module that was made there.
        except BaseException as broken:  # noqa: BLE001
            log.debug("the error of a handler's process cannot be read back: %r", broken)
    if not isinstance(error, Exception):
        error = HandlerError(answer.error_text)
    error.add_note(f"In the handler's process:\n{answer.stack_trace}")
    return error


def _end(pool: pebble.ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]  # pebble's own types leave it out
    pool.join()
