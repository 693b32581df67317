"""A page that stays up to date: its live part, drawn again every second or so and sent when it has changed (SSE).

The parts are drawn by the templates that draw the page, so there is one place that draws, and one that escapes. A
client that was away needs no replay: whatever comes next is how things are.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from api.dashboard.drawing import draw
from api.dashboard.site import asked_of, load
from api.server.event_stream import HEARTBEAT, EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from api.dashboard.site import Page
    from api.server.closing import Closing

_SIGN_OF_LIFE_ROUNDS = 10
"""Rounds without news after which a comment is sent: proxies close connections that say nothing for a while."""


def follow(request: Request, page: Page) -> Response:
    """Answer with the live part of a page, now and whenever it changes."""

    async def drawn() -> str:
        context, _ = await load(page, asked_of(request))
        return draw(page.template, context | {"said": "", "refused": None, "live": ""}, fragment=True)

    return EventStream(changes(drawn, page.every_s(request.query_params), request.app.state.collaborators.closing))


async def changes(drawn: Callable[[], Awaitable[str]], every_s: float, closing: Closing) -> AsyncGenerator[bytes, None]:
    """Yield an event for each change of what `drawn` returns, until the process is asked to stop."""
    last = ""
    silent_rounds = 0
    while not closing.asked:
        html = await drawn()
        silent_rounds += 1
        if html != last:
            last, silent_rounds = html, 0
            yield event("live", html)
        elif silent_rounds >= _SIGN_OF_LIFE_ROUNDS:
            silent_rounds = 0
            yield HEARTBEAT
        await asyncio.sleep(every_s)


def event(name: str, data: str) -> bytes:
    """Return a Server-Sent Event; each line of the data needs its own field."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines())
    return f"event: {name}\n{lines}\n".encode()
