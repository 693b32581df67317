"""Carries out the steps of an operation: `BlockingDriver` with blocking calls, `LoopDriver` in an event loop.

Both do the same, line by line; one of them awaits. Everything else of the two clients is shared.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, ExitStack, closing
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx

from ebs.client.answers import ObjectEvent
from ebs.client.http import CONNECT_S, STREAM_TIMEOUT_S, failure_of, options, reply_of, request_of
from ebs.client.steps import Open, PauseFor, Read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from ebs.client.settings import ClientSettings
    from ebs.client.steps import ApiCall, Reply, Steps

T = TypeVar("T")


class _Course(Generic[T]):
    """The progress of an operation: `step` is the next step; at the end it is None, and `value` is the result."""

    value: T

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self.step: Any = None
        self.take(None)

    def take(self, done: Any) -> None:
        """Go on with what came of the step."""
        try:
            self.step = self._steps.send(done)
        except StopIteration as end:
            self.step, self.value = None, end.value

    def fail(self, error: Exception) -> None:
        """Go on with the failure of the step."""
        try:
            self.step = self._steps.throw(error)
        except StopIteration as end:
            self.step, self.value = None, end.value


class _Lines:
    """Cuts bytes into lines. Not by `splitlines`, nor by httpx: they cut within JSON, such as at U+2028."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, chunk: bytes) -> list[str]:
        """Return the lines that are complete with this piece."""
        *complete, self._rest = (self._rest + chunk).split(b"\n")
        return [line.removesuffix(b"\r").decode(errors="replace") for line in complete]


class BlockingDriver:
    """Carries out steps with blocking calls; tests bring a `transport`, and their own `sleep`."""

    def __init__(
        self,
        settings: ClientSettings,
        timeout_s: float,
        transport: httpx.BaseTransport | None,
        connect_s: float = CONNECT_S,
    ) -> None:
        self.http = httpx.Client(transport=transport, **options(settings, timeout_s=timeout_s, connect_s=connect_s))
        self.sleep: Callable[[float], None] = time.sleep
        self._about = settings.api_url, timeout_s

    def run(self, steps: Steps[T]) -> T:
        """Return what an operation comes to."""
        with closing(steps):
            course = _Course(steps)
            while course.step is not None:
                try:
                    done = self._do(course.step)
                except httpx.RequestError as error:
                    course.fail(failure_of(error, *self._about))
                else:
                    course.take(done)
            return course.value

    def stream(self, steps: Steps[None]) -> Iterator[ObjectEvent]:
        """Yield the events among the steps of an operation."""
        with closing(steps), ExitStack() as stack:
            course = _Course(steps)
            chunks: Iterator[bytes] = iter(())
            lines = _Lines()
            while course.step is not None:
                done: Any = None
                try:
                    if isinstance(course.step, ObjectEvent):
                        yield course.step
                    elif isinstance(course.step, Open):
                        stack.close()
                        request = request_of(self.http, course.step.call, STREAM_TIMEOUT_S)
                        answer = self.http.send(request, stream=True)
                        stack.callback(answer.close)
                        chunks, lines = answer.iter_bytes(), _Lines()
                        done = reply_of(answer, b"" if answer.is_success else answer.read())
                    elif isinstance(course.step, Read):
                        chunk = next(chunks, None)
                        done = None if chunk is None else lines.take(chunk)
                    else:
                        done = self._do(course.step)
                except httpx.RequestError as error:
                    course.fail(failure_of(error, *self._about))
                else:
                    course.take(done)

    def _do(self, step: Any) -> Reply | None:
        if isinstance(step, PauseFor):
            self.sleep(step.seconds)
            return None
        answer = self.send(step)
        return reply_of(answer, answer.content)

    def send(self, asked: ApiCall) -> httpx.Response:
        """Make one call; may raise `httpx.RequestError`."""
        return self.http.send(request_of(self.http, asked))


class LoopDriver:
    """Carries out steps in an event loop; tests bring a `transport`, and their own `sleep`."""

    def __init__(self, settings: ClientSettings, timeout_s: float, transport: httpx.AsyncBaseTransport | None) -> None:
        self.http = httpx.AsyncClient(transport=transport, **options(settings, timeout_s=timeout_s))
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._about = settings.api_url, timeout_s

    async def run(self, steps: Steps[T]) -> T:
        """Return what an operation comes to."""
        with closing(steps):
            course = _Course(steps)
            while course.step is not None:
                try:
                    done = await self._do(course.step)
                except httpx.RequestError as error:
                    course.fail(failure_of(error, *self._about))
                else:
                    course.take(done)
            return course.value

    async def stream(self, steps: Steps[None]) -> AsyncIterator[ObjectEvent]:
        """Yield the events among the steps of an operation."""
        with closing(steps):
            async with AsyncExitStack() as stack:
                course = _Course(steps)
                chunks: AsyncIterator[bytes] = _nothing()
                lines = _Lines()
                while course.step is not None:
                    done: Any = None
                    try:
                        if isinstance(course.step, ObjectEvent):
                            yield course.step
                        elif isinstance(course.step, Open):
                            await stack.aclose()
                            request = request_of(self.http, course.step.call, STREAM_TIMEOUT_S)
                            answer = await self.http.send(request, stream=True)
                            stack.push_async_callback(answer.aclose)
                            chunks, lines = answer.aiter_bytes(), _Lines()
                            done = reply_of(answer, b"" if answer.is_success else await answer.aread())
                        elif isinstance(course.step, Read):
                            chunk = await anext(chunks, None)
                            done = None if chunk is None else lines.take(chunk)
                        else:
                            done = await self._do(course.step)
                    except httpx.RequestError as error:
                        course.fail(failure_of(error, *self._about))
                    else:
                        course.take(done)

    async def _do(self, step: Any) -> Reply | None:
        if isinstance(step, PauseFor):
            await self.sleep(step.seconds)
            return None
        answer = await self.http.send(request_of(self.http, step))
        return reply_of(answer, answer.content)


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in tuple[bytes, ...]():
        yield chunk
