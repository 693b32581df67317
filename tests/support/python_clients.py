"""`ebs.Client` and `ebs.AsyncClient` in front of the application, with faults in between; and objects that end."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
from fake_steps import no_rows
from histories import made_fact
from plain_names import OBJECTS

from app.events import TaskDead, TaskFinished, decode_object, task_id_of
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.results import Results
from app.rules.tally import Tally
from ebs import AsyncClient, Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from app.events import ObjectCreated

_PASSED = {"content-type", "retry-after"}
NOW_MS = 1_795_489_276_303


class Lost(Exception):
    """A fault: the API takes the request, and its answer gets lost like this."""

    def __init__(self, error: httpx.TransportError) -> None:
        super().__init__(str(error))
        self.error = error


class BrokenOff(httpx.SyncByteStream, httpx.AsyncByteStream):
    """An answer that comes in pieces and breaks off behind its content; `closed` tells whether the client closed it."""

    def __init__(self, content: bytes, error: httpx.TransportError | None, piece_bytes: int) -> None:
        self._pieces = [content[at : at + piece_bytes] for at in range(0, len(content), piece_bytes)]
        self._error = error
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        """Note that the client is done with it."""
        self.closed = True

    async def aclose(self) -> None:
        """Note that the client is done with it."""
        self.closed = True


class Asked:
    """One of the two clients. Its methods are called as those of `Client`.

    Each request takes one of `faults`: an answer in place of the API's, an error, `Lost`, or None for no fault.
    `pauses` are those that the client made; `asked` are the requests. `cut` tells after how many bytes a stream of this
    content breaks off, None for one that does not; `streams` are those answers.
    """

    def __init__(self, api: Any, *, blocking: bool, **options: Any) -> None:
        self.api = api
        self.faults: deque[httpx.Response | Exception | None] = deque()
        self.pauses: list[float] = []
        self.asked: list[httpx.Request] = []
        self.on_request: Callable[[httpx.Request], None] = lambda _request: None
        self.cut: Callable[[bytes], int | None] = lambda _content: None
        self.cut_by: httpx.TransportError | None = httpx.ReadError("connection reset by peer")
        self.piece_bytes = 7
        self.streams: list[BrokenOff] = []
        self.client: Any
        if blocking:
            self.client = Client("http://api", transport=httpx.MockTransport(self._answer), **options)
            self.client._driver.sleep = self.pauses.append
        else:
            self.client = AsyncClient("http://api", transport=httpx.MockTransport(self._answer_later), **options)
            self.client._driver.sleep = self._pause

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            returned = method(*arguments, **named)
            if inspect.isasyncgen(returned):
                return self.api.run(_listed(returned))
            if inspect.isgenerator(returned):
                return list(returned)
            return self.api.run(returned) if inspect.isawaitable(returned) else returned

        return call

    def close_it(self) -> None:
        """Close the client."""
        (self.close if isinstance(self.client, Client) else self.aclose)()

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        fault = self._fault(request)
        if isinstance(fault, httpx.Response):
            return fault
        told = self.api.run(self._ask(request))
        if isinstance(fault, Lost):
            raise fault.error
        return told

    async def _answer_later(self, request: httpx.Request) -> httpx.Response:
        fault = self._fault(request)
        if isinstance(fault, httpx.Response):
            return fault
        told = await self._ask(request)
        if isinstance(fault, Lost):
            raise fault.error
        return told

    def _fault(self, request: httpx.Request) -> httpx.Response | Lost | None:
        self.asked.append(request)
        self.on_request(request)
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, Exception) and not isinstance(fault, Lost):
            raise fault
        if isinstance(fault, httpx.Response):
            # One that was sent cannot be sent again.
            passed = {name: value for name, value in fault.headers.items() if name in _PASSED}
            return httpx.Response(fault.status_code, content=fault.content, headers=passed)
        return fault

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        kept = {name: value for name, value in request.headers.items() if name not in {"host", "content-length"}}
        told = await self.api.client.request(request.method, str(request.url), content=request.content, headers=kept)
        passed = {name: value for name, value in told.headers.items() if name in _PASSED}
        if not told.headers.get("content-type", "").startswith("text/event-stream"):
            return httpx.Response(told.status_code, content=told.content, headers=passed)
        cut = self.cut(told.content)
        self.streams.append(BrokenOff(told.content[:cut], None if cut is None else self.cut_by, self.piece_bytes))
        return httpx.Response(told.status_code, stream=self.streams[-1], headers=passed)


async def _listed(events: Any) -> list[Any]:
    return [one async for one in events]


def stored(api: Any) -> list[ObjectCreated]:
    """Return the objects on the topic."""
    return [
        decode_object(record.value)
        for (topic, _), log in api.topics.records.items()
        if topic == OBJECTS
        for record in log
    ]


def end(api: Any, object_id: str, *results: Any) -> None:
    """Let an object's tasks end, as statistics sees it: each with its result, an exception for one that dies."""
    event = next(one for one in stored(api) if one.object_id == object_id)
    row, tally, kept = ObjectRow(), Tally(), Results(no_rows)
    apply_object_created(row, event, tally)
    for sequence, result in enumerate(results):
        common = (object_id, task_id_of(object_id, sequence), 0, event.kind, sequence, len(results), 1)
        apply_task_event(row, made_fact(f"c{sequence}", *common, NOW_MS), tally)
        if isinstance(result, Exception):
            ended = TaskDead(f"d{sequence}", *common, NOW_MS, "w", 0, 0, str(result))
        else:
            told = msgspec.Raw(msgspec.json.encode(result))
            ended = TaskFinished(f"f{sequence}", *common, NOW_MS, "w", 12, 1_500, told)
        apply_task_event(row, ended, tally, kept)
    api.topics.write_row(object_id, row, results=kept)
