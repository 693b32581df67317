"""Keeps other sites out: no request that changes something is taken from a page of another origin.

It holds for the whole API, because a form elsewhere can POST to `/api/control/pause` as well as to a page. The rule
is that of Go 1.25's `net/http.CrossOriginProtection`: Sec-Fetch-Site decides where the browser sends it (https and
localhost), else Origin is held against Host. Programs send neither, and are let through; so no token is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({"same-origin", "none"})


class OwnSiteOnly:
    """ASGI middleware; `refuse` answers instead of the application."""

    def __init__(
        self,
        app: ASGIApp,
        refuse: Callable[[Scope, Receive, Send], Awaitable[None]],
        origins: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._origins = origins
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass; every answer says that no other site may frame it or guess its type."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("X-Frame-Options", "DENY")
                headers.setdefault("Referrer-Policy", "same-origin")
            await send(message)

        app = self._app if is_own(scope["method"], Headers(scope=scope), self._origins) else self._refuse
        await app(scope, receive, send_guarded)


def is_own(method: str, headers: Headers, origins: frozenset[str] = frozenset()) -> bool:
    """Return whether a request is safe, or not from a page of another origin than ours and `origins`."""
    if method in _SAFE_METHODS or headers.get("origin") in origins:
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in _OWN
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")
