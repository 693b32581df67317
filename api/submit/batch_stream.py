"""An NDJSON batch: lines are stored as they arrive, and results are sent while other lines are still arriving.

Memory is bounded by one chunk of lines, what is in flight to the broker, and the results that a client does not read:
many send all before they read anything, so a result never waits for its reader (at most EBS_MAX_BATCH_OBJECTS lines).
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from api.server.problems import Problem
from api.submit.batch import CHUNK_BYTES, CHUNK_COUNT, BatchEntry
from api.submit.body_room import held_body
from api.submit.lines import Line, LineSplitter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from api.submit.batch import Batch
    from api.submit.body_room import HeldBody
    from api.submit.schemas import BatchItemResult
    from app.settings.settings import Settings

NDJSON_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")

_PATIENCE_S = 0.1
"""After which lines that have come are stored although they fill no chunk: who sent them may wait for their results."""

_encode = msgspec.json.Encoder().encode


class _Full(Exception):
    """The batch gets no further; `str()` of one says why, `line` is the first that is not taken."""

    def __init__(
        self,
        reason: str,
        line: int,
        status: HTTPStatus = HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        name: str = "too-large",
    ) -> None:
        super().__init__(reason)
        self.line = line
        self.status = status
        self.name = name


def _too_many(settings: Settings, line: Line) -> _Full:
    return _Full(f"a batch has at most {settings.max_batch_objects} objects (EBS_MAX_BATCH_OBJECTS)", line.number)


async def results_of(request: Request, batch: Batch, settings: Settings) -> AsyncGenerator[list[BatchItemResult]]:
    """Yield the results of a request's lines, some at a time; a client that leaves ends it."""
    try:
        async with aclosing(_chunks(request, settings)) as chunks:
            async for chunk in chunks:
                yield await batch.take(chunk)
    except _Full as full:
        detail = f"{full}: this line and all lines after it were not read"
        yield [batch.refuse(BatchEntry(full.line, None), full.status, full.name, detail)]
    except ClientDisconnect:
        # A line that the connection cut in two must not be taken for a whole one.
        return


async def drain(request: Request, max_bytes: int) -> None:
    """Read on to the body's end: a client that is cut off while it sends never sees the answer."""
    size_bytes = 0
    with suppress(ClientDisconnect, RuntimeError):  # the latter is what Starlette raises where all is read already
        async for data in request.stream():
            size_bytes += len(data)
            if size_bytes > max_bytes:
                return


async def _chunks(request: Request, settings: Settings) -> AsyncGenerator[list[BatchEntry]]:
    """Yield lines, as many as are stored together. Raises `_Full` behind what there was room for."""
    chunk: list[BatchEntry] = []
    chunk_bytes = 0
    held = held_body(request)
    splitter = LineSplitter(settings.max_body_bytes)
    room = settings.max_batch_objects
    try:
        async with aclosing(_arriving(request, splitter, settings.max_batch_bytes)) as arriving:
            async for lines in arriving:
                for line in lines or ():
                    if not room:
                        raise _too_many(settings, line)
                    room -= 1
                    chunk.append(BatchEntry(line.number, line.text))
                    chunk_bytes += len(line.text or b"")
                    if len(chunk) == CHUNK_COUNT or chunk_bytes >= CHUNK_BYTES:
                        yield chunk
                        chunk, chunk_bytes = [], 0
                if lines is None and chunk:
                    yield chunk
                    chunk, chunk_bytes = [], 0
                _hold(held, chunk_bytes + splitter.size_bytes, splitter)
    except _Full:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _hold(held: HeldBody, size_bytes: int, splitter: LineSplitter) -> None:
    try:
        held.resize(size_bytes)
    except Problem as problem:
        raise _Full(problem.detail, splitter.number + 1, problem.status, problem.name) from None


async def _arriving(
    request: Request, splitter: LineSplitter, max_batch_bytes: int
) -> AsyncGenerator[list[Line] | None]:
    """Yield lines as they come in, None when nothing comes for a while. Raises `_Full` (bytes), `ClientDisconnect`."""
    size_bytes = 0
    async with aclosing(request.stream()) as stream:
        reading: asyncio.Task[bytes | None] | None = None
        try:
            while True:
                # Not `wait_for`: what is cancelled while it reads may lose what it has read.
                reading = reading or asyncio.create_task(_next(stream))
                done, _ = await asyncio.wait({reading}, timeout=_PATIENCE_S)
                if not done:
                    yield None
                    continue
                data, reading = reading.result(), None
                if data is None:
                    break
                size_bytes += len(data)
                if size_bytes > max_batch_bytes:
                    reason = f"a batch has at most {max_batch_bytes} bytes (EBS_MAX_BATCH_BYTES)"
                    raise _Full(reason, splitter.number + 1)
                yield splitter.feed(data)
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait({reading})
    yield splitter.finish()


async def _next(stream: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(stream, None)


class NdjsonResponse(Response):
    """Results as NDJSON as they come, and a summary in the last line. An answer that breaks off has no summary."""

    def __init__(self, first: list[BatchItemResult], rest: AsyncGenerator[list[BatchItemResult]], batch: Batch) -> None:
        super().__init__(status_code=HTTPStatus.MULTI_STATUS, media_type=NDJSON_TYPES[0])
        del self.headers["content-length"]
        self._waiting = [_lines_of(first)]
        self._rest = rest
        self._batch = batch

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the answer; reading the request goes on meanwhile, whether anybody reads the answer or not."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        more = asyncio.Event()
        more.set()
        reading = asyncio.create_task(self._read(more))
        reading.add_done_callback(lambda _: more.set())
        try:
            while not reading.done() or self._waiting:
                await more.wait()
                more.clear()
                body = b"".join(self._waiting)
                self._waiting.clear()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            reading.result()
        finally:
            reading.cancel()
            await asyncio.wait({reading})
        await send({"type": "http.response.body", "body": _encode({"summary": self._batch.summary}) + b"\n"})

    async def _read(self, more: asyncio.Event) -> None:
        async with aclosing(self._rest) as rest:
            async for results in rest:
                self._waiting.append(_lines_of(results))
                more.set()


def _lines_of(results: Iterable[BatchItemResult]) -> bytes:
    return b"".join([_encode(result) + b"\n" for result in results])
