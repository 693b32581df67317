"""The two clients on real sockets: nobody there, nobody answering, connections that are reset in the middle."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ebs import ApiUnreachable, AsyncClient, Client, NewObject, SettingsError, SubmitFailed, WaitTimedOut
from ebs.client.operations import wait
from ebs.client.steps import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "a-key-of-the-tests-0123456789"
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: to close is to reset."""


class Server:
    """Answers the n-th request with the n-th of `answers`: bytes, and whether the connection is reset behind them.

    None takes the request and says nothing. `requests` are the requests, head and body.
    """

    def __init__(self, *answers: tuple[bytes, bool] | None) -> None:
        self.requests: list[bytes] = []
        self._answers = list(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for one in self._open:
            one.close()
        self._thread.join(10)

    def _serve(self) -> None:
        for answer in self._answers:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.requests.append(_read_request(connection))
            if answer is None:
                self._open.append(connection)
                continue
            data, is_reset = answer
            connection.sendall(data)
            if is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while lengths and len(body) < int(lengths[0]):
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def answer(body: Any, *, cut: int | None = None, status: str = "202 Accepted") -> tuple[bytes, bool]:
    """Return an answer of the API; cut off and reset after so many bytes of its body."""
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + text[:cut], cut is not None


@pytest.fixture(params=["blocking", "loop"])
def ask(request) -> Callable[..., Any]:
    """Return a function that calls one method of a new client of each sort."""

    def blocking(url: str, method: str, *arguments: Any, options: dict[str, Any], **named: Any) -> Any:
        with Client(url, **options) as client:
            client._driver.sleep = lambda _seconds: None
            returned = getattr(client, method)(*arguments, **named)
            return list(returned) if method == "events" else returned

    async def awaited(url: str, method: str, *arguments: Any, options: dict[str, Any], **named: Any) -> Any:
        async with AsyncClient(url, **options) as client:
            client._driver.sleep = lambda _seconds: asyncio.sleep(0)
            returned = getattr(client, method)(*arguments, **named)
            return [one async for one in returned] if method == "events" else await returned

    def call(url: str, method: str, *arguments: Any, options: dict[str, Any] | None = None, **named: Any) -> Any:
        given = {"api_key": KEY, **(options or {})}
        if request.param == "blocking":
            return blocking(url, method, *arguments, options=given, **named)
        return asyncio.run(awaited(url, method, *arguments, options=given, **named))

    return call


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server."""
    servers: list[Server] = []

    def start(*answers: tuple[bytes, bool] | None) -> Server:
        servers.append(Server(*answers))
        return servers[-1]

    yield start
    for one in servers:
        one.close()


@pytest.mark.parametrize("cut", [0, 5])
def test_reset_in_the_middle_of_the_answer_is_repeated_with_the_same_id(serve, ask, cut):
    """The API took the first request: the second one must be recognised as the same."""
    server = serve(answer({"id": "0" * 32}, cut=cut), (b"", True), answer({"id": "0" * 32}))
    assert "0" * 32 == ask(server.url, "submit", "mail", "hello").id
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in server.requests]
    assert 3 == len(bodies)
    assert 1 == len({body["id"] for body in bodies})
    assert all(f"Authorization: Bearer {KEY}".encode() in request for request in server.requests)


def test_nobody_there_is_said_after_the_retries(ask):
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ApiUnreachable, match=rf"no API answers at http://127.0.0.1:{port} .*`ebs up`") as caught:
        ask(f"http://127.0.0.1:{port}", "submit", "mail")
    assert (0, 32) == (caught.value.status, len(caught.value.object_id))
    with pytest.raises(ApiUnreachable):
        ask(f"http://127.0.0.1:{port}", "submit_many", [NewObject("mail")])
    with pytest.raises(ApiUnreachable):
        ask(f"http://127.0.0.1:{port}", "events", "a")


def test_server_that_says_nothing_is_left_after_the_time_limit(serve, ask):
    """Each try takes the time limit; the error says that somebody takes connections there."""
    server = serve(None, None)
    with pytest.raises(ApiUnreachable, match=r"takes connections and did not answer within 0.2 s"):
        ask(server.url, "get", "a", options={"timeout_s": 0.2, "retries": 1})
    assert 2 == len(server.requests)


def test_server_that_says_nothing_does_not_hold_up_a_wait(serve, ask):
    """A wait ends soon after its own time limit, if that of a request is longer, too."""
    server = serve(None)
    with pytest.raises(WaitTimedOut, match=r"has not ended within 0.1 s"):
        ask(server.url, "wait", "a", timeout_s=0.1, options={"timeout_s": 0.2, "retries": 0})
    asked = next(wait(Policy(0, clock_s=lambda: 100.0), "a", 3.0))
    assert (3.0, 8.0) == (asked.wait_s, asked.limit_s)


def test_key_that_cannot_be_sent_is_said_at_once():
    """And not printed."""
    with pytest.raises(SettingsError, match=r"^api_key: each key has 16 to 256 characters") as caught:
        Client("http://127.0.0.1:1", api_key="short\nsecret")
    assert "secret," not in str(caught.value)


def test_address_and_key_come_from_the_environment(serve, ask, monkeypatch, tmp_path):
    """As for the commands; the file of a secret counts, too."""
    server = serve(answer({"id": "a", "state": "CREATED", "kind": "k"}, status="200 OK"))
    secret = tmp_path / "key"
    secret.write_text(f"{KEY[::-1]}\n")
    monkeypatch.setenv("EBS_API_URL", server.url)
    monkeypatch.setenv("EBS_API_KEY_FILE", str(secret))
    assert "CREATED" == ask(None, "get", "a", options={"api_key": None}).state
    assert f"Authorization: Bearer {KEY[::-1]}".encode() in server.requests[0]


def test_errors_survive_being_pickled():
    """A process pool hands them over."""
    import pickle  # noqa: PLC0415  # only here

    error = ApiUnreachable("no API", {"type": "t"}, 3, status=503, request_id="r")
    again = pickle.loads(pickle.dumps(error))
    assert (str(error), error.problem, 3, 503, "r") == (
        str(again),
        again.problem,
        again.retry_after_s,
        again.status,
        again.request_id,
    )
    refused = pickle.loads(pickle.dumps(SubmitFailed("some", ["a"], [])))
    assert ("some", ["a"]) == (str(refused), refused.accepted)
