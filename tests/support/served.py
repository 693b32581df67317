"""An application behind a real uvicorn, and a client that writes its requests byte by byte."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
from api_process import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

_PATIENCE_S = 30.0


class Answer(NamedTuple):
    """An answer as it came over the wire; names of headers in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection, kept alive."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
        self._buffer = b""

    def send(self, *requests: bytes) -> None:
        """Send requests at once, without waiting for answers."""
        self._socket.sendall(b"".join(requests))

    def read(self, method: str = "GET") -> Answer:
        """Read the answer to the next request, which was of this method."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        fields = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in fields}
        body = b"" if method == "HEAD" else self._body(headers)
        return Answer(int(head[0].split()[1]), headers, body)

    def ask(self, request: bytes) -> Answer:
        """Send a request and read its answer."""
        self.send(request)
        return self.read(request.split()[0].decode())

    def send_until_it_waits(self, data: bytes, limit_bytes: int) -> int:
        """Send again and again until the server takes no more for a second, or to the limit; returns how much."""
        self._socket.settimeout(1.0)
        sent_bytes = 0
        with suppress(TimeoutError):
            while sent_bytes < limit_bytes:
                sent_bytes += self._socket.send(data)
        return sent_bytes

    def wait_for_hang_up(self) -> None:
        """Wait until the server hangs up, whatever it says before."""
        with suppress(ConnectionError):
            while self._socket.recv(65_536):
                pass

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self._exactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size + 2)[:-2]
        self._until(b"\r\n")
        return body

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._fill()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    def _fill(self) -> None:
        data = self._socket.recv(65_536)
        assert data, f"the server hung up after {self._buffer!r}"
        self._buffer += data


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Return the bytes of a request; `_` in the names of headers stands for a dash."""
    fields = {"host": "api", "content-length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


@contextmanager
def served(app: ASGIApp, *, loop: str, http: str) -> Iterator[int]:
    """Serve an application on an event loop and with a parser of HTTP, as uvicorn names them; yields the port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, loop=loop, http=http, log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive(), "the server to start")
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(_PATIENCE_S)
            assert not thread.is_alive()
