"""A receiver of callbacks: an HTTP/1.1 server on a socket, so that it can also do what no server should."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Self

from app.webhooks.signatures import keys_of_secrets, signed_headers

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""The secret of the examples of Standard Webhooks."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Received(NamedTuple):
    """A request: its target, its headers (lower case), its body, and which connection it came on."""

    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def is_signed(self) -> bool:
        """Whether one of its signatures is right."""
        (key,) = keys_of_secrets([SECRET])
        expected = signed_headers([key], self.headers["webhook-id"], int(self.headers["webhook-timestamp"]), self.body)
        return expected["webhook-signature"] in self.headers["webhook-signature"].split()


def answering(answer: bytes = OK) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """Return the behaviour of a server that answers and keeps the connection."""

    async def answer_with(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return answer_with


def closing(answer: bytes = b"") -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """Return the behaviour of a server that closes after what it has sent."""

    async def close_after(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    return close_after


async def hang(_writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


def endless(head: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """Return the behaviour of a server whose answer never ends."""

    async def answer_for_ever(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(b"x" * 1_024)
            await writer.drain()
            await asyncio.sleep(0)

    return answer_for_ever


class Receiver:
    """The server; `behave` is how it answers the next requests, `received` what has come."""

    def __init__(
        self,
        behave: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self.behave = behave or answering()
        self.received: list[Received] = []
        self.port = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._count = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        for one in self._connections:
            one.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def url(self, host: str = "127.0.0.1", path: str = "/hooks") -> str:
        """Return where it listens."""
        return f"http://{host}:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        self._count += 1
        number = self._count
        # A connection ends when the sender, or the test, ends it.
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while not writer.is_closing():
                self.received.append(await _read(reader, number))
                await self.behave(writer)
        writer.close()


async def _read(reader: asyncio.StreamReader, connection: int) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    lines = (line.partition(": ") for line in head[1:] if line)
    headers = {name.lower(): value for name, _, value in lines}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(head[0].split()[1], headers, body, connection)
