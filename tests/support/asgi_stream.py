"""A request whose answer goes on for long: httpx's ASGI transport hands out an answer only once it is complete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 20.0


class AsgiStream:
    """GETs a path of an application within `async with`; `reading=False` is a client that takes nothing."""

    def __init__(self, app: Any, path: str, headers: Mapping[str, str] | None = None, *, reading: bool = True) -> None:
        route, _, query = path.partition("?")
        named = {"accept": "text/event-stream"} | dict(headers or {})
        self._scope = {
            "type": "http",
            "method": "GET",
            "path": route,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
        }
        self._app = app
        self._left = asyncio.Event()
        self._came = asyncio.Event()
        self.may_read = asyncio.Event()
        if reading:
            self.may_read.set()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._app(self._scope, self._receive, self._send))
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._left.set()
        async with asyncio.timeout(TIMEOUT_S):
            await self._task

    async def until(self, text: bytes, count: int = 1) -> bytes:
        """Return what came, once it holds a text so many times."""
        async with asyncio.timeout(TIMEOUT_S):
            while self.body.count(text) < count:
                self._came.clear()
                await self._came.wait()
        return self.body

    async def end(self) -> bytes:
        """Return everything, once the answer has ended by itself."""
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.shield(self._task)
        return self.body

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        await self.may_read.wait()
        self.body += message["body"]
        self.complete = not message["more_body"]
        self._came.set()


def messages(body: bytes) -> list[dict[str, str]]:
    """Return the events of a stream as fields, comments and `retry` left out."""
    found = []
    for block in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith((":", "retry")))
        if fields:
            found.append(fields)
    return found
