"""A page that stays up to date: its live part, drawn again every second or so and sent when it has changed (SSE).

The parts are drawn by the templates that draw the page, so there is one place that draws, and one that escapes. A
client that was away needs no replay: whatever comes next is how things are.

All tabs of the same page, query and rights get the same bytes, loaded and drawn once. Nothing else of a request gets
into them: the loads inside have the rights of the tabs, and no cookie, address or header of any of them.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from api.dashboard.drawing import draw
from api.dashboard.inside import RIGHTS, Inside
from api.dashboard.site import Asked, load
from api.dependencies import now_ms
from api.server.broadcast import Broadcast
from api.server.event_stream import HEARTBEAT, EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from api.dashboard.site import Page
    from api.dependencies import Collaborators


class LiveParts:
    """The live parts that tabs follow now, by page, query and rights."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._followed: dict[Hashable, Broadcast[bytes]] = {}
        self._is_closed = False
        self._parts.closing.call(self.close)

    def answer(self, request: Request, page: Page) -> Response:
        """Answer with the live part of a page, now and whenever it changes."""
        path, query = request.path_params, dict(request.query_params)
        rights = request.scope.get(RIGHTS)

        def start() -> Broadcast[bytes]:
            outer = {} if rights is None else {RIGHTS: rights}
            return Broadcast(self._drawing(page, path, query, Inside(self._app, outer)), page.every_s(query))

        key = (page.path, frozenset(path.items()), frozenset(query.items()), rights)
        streams = self._parts.streams
        return EventStream(self._events(key, start, streams.heartbeat_s), streams.send_timeout_s)

    def close(self) -> None:
        """Let all tabs go: the process stops."""
        self._is_closed = True
        for one in self._followed.values():
            one.close()

    @property
    def _parts(self) -> Collaborators:
        parts: Collaborators = self._app.state.collaborators
        return parts

    def _drawing(
        self, page: Page, path: dict[str, Any], query: dict[str, str], inside: Inside
    ) -> Callable[[], Awaitable[bytes]]:
        async def drawn() -> bytes:
            context, _ = await load(page, Asked(path, query, inside, now_ms(self._parts)))
            return event("live", draw(page.template, context | _NOTHING_SAID, fragment=True))

        return drawn

    async def _events(
        self, key: Hashable, start: Callable[[], Broadcast[bytes]], heartbeat_s: float
    ) -> AsyncGenerator[bytes, None]:
        if self._is_closed:
            return
        broadcast = self._followed.get(key) or self._followed.setdefault(key, start())
        try:
            async with aclosing(broadcast.follow((HEARTBEAT, heartbeat_s))) as events:
                async for one in events:
                    yield one
        finally:
            if not broadcast.is_followed and self._followed.get(key) is broadcast:
                del self._followed[key]


_NOTHING_SAID = {"said": "", "refused": None, "live": ""}
"""What pages say to one person only is in no live part."""


def event(name: str, data: str) -> bytes:
    """Return a Server-Sent Event; each line of the data needs its own field."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines())
    return f"event: {name}\n{lines}\n".encode()
