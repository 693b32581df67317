"""How many bytes of request bodies this process holds at once, all requests together: each one alone is bounded too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.server import problems

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

_SCOPE_KEY = "ebs.held_body"


class HeldBody:
    """What one request holds of the room."""

    def __init__(self, room: BodyRoom) -> None:
        self._room = room
        self._size_bytes = 0

    def resize(self, size_bytes: int) -> None:
        """Hold so many bytes from now on. Raises `Problem` (503) where there is no room for more."""
        room = self._room
        more = size_bytes - self._size_bytes
        if more > 0 and room.held_bytes + more > room.limit_bytes:
            raise problems.unavailable(
                "too-many-bodies",
                f"too many request bodies are in memory: {room.held_bytes} bytes of at most {room.limit_bytes} "
                "(EBS_MAX_BODIES_BYTES). Send this request again later",
                {"safe_to_repeat": True},
            )
        room.held_bytes += more
        self._size_bytes = size_bytes


class BodyRoom:
    """An ASGI application in which requests share a room for their bodies, each until it is answered."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held = HeldBody(self)
        try:
            scope[_SCOPE_KEY] = held
            await self._app(scope, receive, send)
        finally:
            held.resize(0)


def held_body(request: Request) -> HeldBody:
    """Return what a request holds."""
    held: HeldBody = request.scope[_SCOPE_KEY]
    return held
