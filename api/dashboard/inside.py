"""The API as the dashboard calls it: the same routes, in the same process, without a network in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from ebs.client.segments import api_path

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_FIRST_ERROR = 400
_UNPROCESSABLE = 422
_HOST = "http://inside"
_OUTER = "ebs.outer"
"""In the scope of a call: the scope of the request that the call is made inside of. Servers never write this key.

The mark must travel with the one call. What a context variable holds is inherited by later requests: servers make
their tasks, and resume reading from a connection, in the context of an earlier request.
"""

RIGHTS = "ebs.rights"
"""In the scope of a request that the gate let in: the scopes of its key."""


def outer_of(scope: Scope) -> Scope | None:
    """Return the scope of the request that this call is made inside of, None of a request that came from outside."""
    outer: Scope | None = scope.get(_OUTER)
    return outer


class Refused(Exception):
    """An error answer of the API: its status and its problem document."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("detail", ""))
        self.status = status
        self.problem = problem


class Inside:
    """Calls the API inside of a request, with the rights and the client of the request (its `outer` scope)."""

    def __init__(self, app: ASGIApp, outer: Scope) -> None:
        async def call_inside(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, _OUTER: outer}, receive, send)

        client = tuple(outer.get("client") or ("", 0))
        self._transport = httpx.ASGITransport(call_inside, client=client, raise_app_exceptions=False)

    async def get(self, path: str, **query: Any) -> Any:
        """Return the JSON answer; a query of None is left out. Raises `Refused`."""
        return await self.call("GET", path, query)

    async def call(self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None) -> Any:
        """Send a request, with a body as JSON unless it is None, and return the JSON answer. Raises `Refused`."""
        asked = {name: value for name, value in (query or {}).items() if value not in {None, ""}}
        content, headers = b"", {"accept": "application/json"}
        if body is not None:
            content, headers["content-type"] = msgspec.json.encode(body), "application/json"
        request = httpx.Request(method, _HOST + path, params=asked, content=content, headers=headers)
        answer = await self._transport.handle_async_request(request)
        data = await answer.aread()
        decoded = msgspec.json.decode(data) if data else {}
        if answer.status_code >= _FIRST_ERROR:
            raise Refused(answer.status_code, decoded)
        return decoded


def path_of(*parts: str) -> str:
    """Return a path of the API; what people wrote cannot leave its segment. Raises `Refused` for what is empty."""
    try:
        return api_path(*parts)
    except ValueError:
        problem = {"title": "Unprocessable Content", "status": _UNPROCESSABLE, "detail": "A required field is empty"}
        raise Refused(_UNPROCESSABLE, problem) from None
