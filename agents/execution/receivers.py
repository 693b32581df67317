"""The receivers of callbacks, by host and port: one that is slow or silent must not hold up callbacks to the others.

Each host has a few calls at once. A host whose last call got no answer has one, until it answers again. A callback that
finds no free place waits a moment here, then in the table `waiting`; its attempt does not count as failed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PLACES = 20
"""Calls at once to one host."""
MAX_CALLS = 1_000
"""Calls at once of one worker: each has a socket."""
MAX_WAITING = 1_000
"""Callbacks of one worker that wait for a place."""
MAX_HOSTS = 10_000
"""Hosts that are remembered, if so many are silent: whose URLs these are decides a client."""
WAIT_S = 5.0
"""Less than the time by which the engine's limit is longer than a call's."""


class NoPlace(Exception):
    """A host has no free place; the text says why."""


class Post:
    """One call of a host: `answered` is None until it is known whether the host answered."""

    answered: bool | None = None


class _Host:
    def __init__(self) -> None:
        self.calls = 0
        self.silent = False
        self.waiting: deque[asyncio.Future[None]] = deque()

    @property
    def has_place(self) -> bool:
        return self.calls < (1 if self.silent else PLACES)


class Receivers:
    """What is known of the hosts; for one event loop."""

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._hosts: dict[str, _Host] = {}
        self._calls = 0
        self._waiting = 0

    @asynccontextmanager
    async def place(self, url: str) -> AsyncIterator[Post]:
        """Hold a place of a URL's host. Raises `NoPlace`."""
        name = urlsplit(url).netloc.lower()
        host = self._hosts.get(name)
        if host is not None and not host.has_place:
            await self._wait(name, host)
        elif self._calls >= MAX_CALLS:
            raise NoPlace(f"this worker sends {self._calls:,} callbacks already")
        else:
            if host is None:
                host = self._add(name)
            self._take(host)
        call = Post()
        try:
            yield call
        finally:
            if call.answered is not None:
                host.silent = not call.answered
            self._leave(name, host)

    async def _wait(self, name: str, host: _Host) -> None:
        # Whoever waits has no place because others have them: each of those gives its own on (`_leave`).
        why = f"{name} has not answered its last callback" if host.silent else f"{name} is still busy with others"
        if self._waiting >= MAX_WAITING:
            raise NoPlace(why)
        turn = asyncio.get_running_loop().create_future()
        host.waiting.append(turn)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                # The place came together with the end of the wait.
                self._leave(name, host)
            else:
                with suppress(ValueError):
                    host.waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise NoPlace(why) from None
            raise
        finally:
            self._waiting -= 1

    def _add(self, name: str) -> _Host:
        if len(self._hosts) >= MAX_HOSTS:
            self._hosts = {name: host for name, host in self._hosts.items() if host.calls}
        return self._hosts.setdefault(name, _Host())

    def _take(self, host: _Host) -> None:
        host.calls += 1
        self._calls += 1

    def _leave(self, name: str, host: _Host) -> None:
        host.calls -= 1
        self._calls -= 1
        while host.waiting and host.has_place:
            turn = host.waiting.popleft()
            if not turn.done():
                self._take(host)
                turn.set_result(None)
        if not (host.calls or host.silent):
            self._hosts.pop(name, None)
