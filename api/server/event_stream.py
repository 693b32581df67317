"""Server-Sent Events: how they are written, and streams that run until the client has gone.

A client that does not read blocks nobody: its waiting events are bounded at their source, and if a stream cannot be
written for a while, it is closed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Any

    from starlette.types import Receive, Scope, Send

_log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b": still here\n\n"
_RETRY_MS = 2_000


class StreamLimits(NamedTuple):
    """When a stream without events sends a heartbeat, and when a stream that nobody reads is closed.

    Proxies take a connection for dead after 30 or 60 s of silence.
    """

    heartbeat_s: float = 10.0
    look_s: float = 1.0
    """How often a quiet stream of events looks whether the ledger has the object's end."""
    send_timeout_s: float = 30.0


def message(event: str, data: Any, event_id: str | None = None) -> bytes:
    """Return an event as it goes to the client; `data` is JSON bytes, or what becomes JSON."""
    encoded = data if isinstance(data, bytes) else msgspec.json.encode(data)
    lines = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
    # JSON on a topic may be written with line breaks, which would end the field.
    parts = b"\ndata: ".join(encoded.splitlines())
    return lines + b"event: " + event.encode() + b"\ndata: " + parts + b"\n\n"


class EventStream(Response):
    """Answers with what `source` yields; ends with it, or when the client has gone."""

    media_type = MEDIA_TYPE

    def __init__(
        self, source: AsyncGenerator[bytes, None], send_timeout_s: float = StreamLimits().send_timeout_s
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._source = source
        self._send_timeout_s = send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the source ends, the client has gone or does not take anything for too long."""
        leaving = asyncio.ensure_future(_until_gone(receive))
        sending = asyncio.ensure_future(self._send(scope, send))
        try:
            await asyncio.wait((leaving, sending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            sending.cancel()
            await asyncio.gather(leaving, sending, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def _send(self, scope: Scope, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        async with aclosing(self._source) as source:
            await send(start)
            await send({"type": "http.response.body", "body": f"retry: {_RETRY_MS}\n\n".encode(), "more_body": True})
            async for body in source:
                try:
                    async with asyncio.timeout(self._send_timeout_s):
                        await send({"type": "http.response.body", "body": body, "more_body": True})
                except TimeoutError:
                    # Without the last chunk the server closes the connection, which tells that something is missing.
                    silent_s = self._send_timeout_s
                    _log.warning("a client of %s read nothing for %g s: connection closed", scope["path"], silent_s)
                    return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
