"""One computation for all followers: it repeats while there is a follower, and each gets the newest result.

No follower waits for another: a slow follower misses results. A new follower makes the next computation start earlier,
and gets the first result whose computation began after it came, so never a result that is older than one that it has
just seen elsewhere. Followers that come at about the same time share this computation.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

Result = TypeVar("Result")


class ComputationFailed(Exception):
    """The computation raised its cause. To follow again starts it again."""


class Broadcast(Generic[Result]):
    """Computes a result every `every_s` seconds while it is followed."""

    def __init__(self, compute: Callable[[], Awaitable[Result]], every_s: float) -> None:
        self._compute = compute
        self._every_s = every_s
        self._followers_count = 0
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._newest: Result | None = None
        self._changes_count = 0
        self._begun_count = 0
        self._done_count = 0
        self._hurry = asyncio.Event()
        self._moved = asyncio.Event()
        self._is_closed = False

    @property
    def is_followed(self) -> bool:
        """Whether anybody follows."""
        return self._followers_count > 0

    async def follow(self, heartbeat: tuple[Result, float] | None = None) -> AsyncGenerator[Result, None]:
        """Yield the result now and whenever it has changed.

        `heartbeat` is what to yield after each so many seconds without a change. Raises `ComputationFailed`. Ends when
        this is closed.
        """
        sign, quiet_s = heartbeat or (None, None)
        first, seen = self._begun_count + 1, 0
        self._join()
        try:
            while not self._is_closed:
                newest = sign
                with suppress(TimeoutError):
                    async with asyncio.timeout(quiet_s):
                        newest, seen = await self._next_change(first, seen)
                if newest is not None and not self._is_closed:
                    yield newest
        finally:
            self._leave()

    def close(self) -> None:
        """Let all followers go: the process stops."""
        self._is_closed = True
        self._wake()

    async def _next_change(self, first: int, seen: int) -> tuple[Result | None, int]:
        while not self._is_closed:
            if self._failure is not None:
                # An exception of its own for each: one that many tasks raise collects the tracebacks of all.
                raise ComputationFailed(repr(self._failure)) from self._failure
            if self._done_count >= first and self._changes_count != seen:
                break
            await self._moved.wait()
        return self._newest, self._changes_count

    def _join(self) -> None:
        self._followers_count += 1
        self._hurry.set()
        if self._task is None or self._task.done():
            self._failure = None
            # Not in the context of the first follower's request, which may be traced.
            self._task = asyncio.create_task(self._run(), context=Context())

    def _leave(self) -> None:
        self._followers_count -= 1
        if not self.is_followed and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        me = asyncio.current_task()
        try:
            while self._task is me:
                self._hurry.clear()
                self._begun_count += 1
                begun = self._begun_count
                result = await self._compute()
                if not self._changes_count or result != self._newest:
                    self._newest = result
                    self._changes_count += 1
                self._done_count = begun
                self._wake()
                await self._pause()
        except BaseException as error:
            if self._task is me:  # otherwise the last follower has left, and others may have come since
                self._failure = error
                self._wake()
            if not isinstance(error, Exception):
                raise

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._every_s):
                await self._hurry.wait()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
