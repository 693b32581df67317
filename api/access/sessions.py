"""Sessions of browsers: they start with a key, and end after a time, with their key, or by a logout.

A logout is a record of `control`, so it applies in every API process, also after a restart: a process accepts no
session until it has read the topic up to its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.server import problems
from api.view.behind import ViewBehind
from app.rules.commands import CommandKey, EndSession, Family

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Send

    from api.access.keys import Keys, Session
    from api.submit.commands import Commander
    from api.view.view import View

_S_MS = 1_000


class Sessions:
    """The sessions that hold; `clock_s` tells their time."""

    def __init__(self, keys: Keys, view: View, clock_s: Callable[[], int]) -> None:
        self._keys = keys
        self._view = view
        self._clock_s = clock_s
        self._known_generation: int | None = None

    def begin(self, key: str) -> str | None:
        """Return a session, as a cookie carries it, for the holder of a key; None if nobody has the key."""
        return self._keys.session_of(key, self._clock_s())

    def find(self, cookie: str) -> Session | None:
        """Return a session that holds, as far as this process knows; see `wait_until_known`."""
        session = self._keys.read_session(cookie, self._clock_s())
        return None if session is None or self._view.control.state.is_session_over(session.name) else session

    async def wait_until_known(self) -> None:
        """Wait until all logouts are known that came before the view began to read. Raises `Problem` (503)."""
        generation = self._view.generation
        if self._known_generation == generation:
            return
        try:
            await self._view.catch_up(self._view.names.control)
        except ViewBehind as error:
            unknown = "the API cannot yet know whether this browser has logged out. Try again, or send an API key"
            detail = f"{error}, so {unknown}"
            raise problems.unavailable("sessions-unknown", detail) from error
        self._known_generation = generation

    async def end(self, session: Session, commander: Commander) -> None:
        """End a session in every process. Raises `Problem` (503)."""
        place = CommandKey(Family.SESSION, session.name)
        await commander.put(place, EndSession(session.ends_at_s * _S_MS, self._clock_s() * _S_MS))

    def sending(self, cookie: str, send: Send) -> Send:
        """Return a `send` that ends a stream when the session ends: an open stream must not outlive its session."""
        is_stream, is_over = False, False

        async def send_while_it_holds(message: Message) -> None:
            nonlocal is_stream, is_over
            if is_over:
                return
            if message["type"] == "http.response.start":
                is_stream = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            elif is_stream and self.find(cookie) is None:
                is_over = True
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        return send_while_it_holds
