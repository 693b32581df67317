"""Connections to the broker: the seam between aiokafka and the model.

aiokafka's clients are the real ones down to the connection: what they send are the protocol's own requests, in the
version that they negotiated, only not as bytes. So everything that aiokafka does about an answer that does not come
(repeat it, look for the coordinator, connect again) is what it does in production. Requests of one connection arrive
in order, as do their answers; those of two connections in any order.
"""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError

from simulation.faults import APIS
from simulation.loop import current_process

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from simulation.broker import Broker
    from simulation.faults import Faults
    from simulation.loop import SimulatedLoop
    from simulation.process import Process
    from simulation.trace import Trace

HOST, PORT, NODE = "model", 9092, 1
_TIMEOUT_S = 2.0


class Network:
    """Carries requests and answers, each in a time of its own, and does what the faults say."""

    def __init__(
        self,
        loop: SimulatedLoop,
        rng: random.Random,
        broker: Broker,
        faults: Faults,
        trace: Trace,
        *,
        one_way_s: tuple[float, float],
    ) -> None:
        self.broker = broker
        self._loop = loop
        self._rng = rng
        self._faults = faults
        self._trace = trace
        self._one_way_s = one_way_s
        # Requests and answers under way belong to nobody: neither a kill nor a freeze of their sender stops them.
        self._nobody = contextvars.Context()

    def connect(
        self, client_id: str, on_close: Callable[[Any, Any], None] | None = None, timeout_s: float = _TIMEOUT_S
    ) -> Connection:
        """Return a connection of the current process. Raises `KafkaConnectionError` if that has died."""
        process = current_process.get()
        if process is None or not process.is_alive:
            raise KafkaConnectionError("the process is dead")
        return Connection(self, process, client_id, on_close, timeout_s)

    async def call(self, client_id: str, request: Any) -> Any:
        """Send a request on a connection of its own."""
        connection = self.connect(client_id)
        try:
            return await connection.send(request)
        finally:
            connection.close()

    def later(self, delay_s: float, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function later, whatever becomes of the process that asks for it."""
        self._loop.call_later(delay_s, function, *arguments, context=self._nobody)

    def carry(self, connection: Connection, request: Any, answer: asyncio.Future[Any]) -> None:
        """Bring a request to the broker, and its answer back, as far as the faults let it."""
        api = APIS[request.API_KEY]
        now_s, process = self._loop.now_s, connection.process
        fault = self._faults.draw(api, now_s)
        kind, delay_s = fault or ("", 0.0)
        if kind:
            self._trace.note("%s: %s of %s (%.3f s)", process, api, kind, delay_s)
        arrives_s = now_s + self._rng.uniform(*self._one_way_s)
        if kind == "late":
            self.later(self._rng.uniform(*self._one_way_s), connection.cut)
            self.later(delay_s, self._arrive, connection, request, answer, kind)
            return
        if kind in ("lost request", "killed before"):
            ends = connection.cut if kind == "lost request" else process.end
            self.later(delay_s, ends, *(("killed",) if kind == "killed before" else ()))
            return
        connection.busy_until_s = max(connection.busy_until_s, arrives_s + (delay_s if kind == "slow" else 0.0))
        self._loop.call_at(
            connection.busy_until_s, self._arrive, connection, request, answer, kind, context=self._nobody
        )
        if kind == "frozen after":
            self.later(delay_s + connection.busy_until_s - now_s, process.thaw)

    def _arrive(self, connection: Connection, request: Any, answer: asyncio.Future[Any], kind: str) -> None:
        def reply(response: Any) -> None:
            if kind in ("", "slow", "refused", "late", "frozen after"):
                back_s = self._loop.now_s + self._rng.uniform(*self._one_way_s)
                connection.answered_until_s = max(connection.answered_until_s, back_s)
                self._loop.call_at(connection.answered_until_s, _resolve, answer, response, context=self._nobody)

        process = connection.process
        if kind == "refused" and (response := self.broker.refuse(request, self._rng)) is not None:
            reply(response)
            return
        if kind == "late":
            self._trace.note("%s: late %s arrives", process, APIS[request.API_KEY])
        self.broker.handle(request, connection.client_id, reply)
        if kind == "lost answer":
            self.later(self._rng.uniform(*self._one_way_s), connection.cut)
        elif kind == "silent":
            self.later(connection.timeout_s, connection.time_out, answer)
        elif kind == "killed after":
            process.end("killed")
        elif kind == "frozen after":
            process.freeze()


class Connection:
    """One connection of a client, with the part of `AIOKafkaConnection` that aiokafka's client uses."""

    def __init__(
        self,
        network: Network,
        process: Process,
        client_id: str,
        on_close: Callable[[Any, Any], None] | None,
        timeout_s: float,
    ) -> None:
        self.host, self.port = HOST, PORT
        self.process = process
        self.client_id = client_id
        self.timeout_s = timeout_s
        self.busy_until_s = 0.0
        self.answered_until_s = 0.0
        self._network = network
        self._on_close = on_close
        self._is_open = True
        self._waiting: dict[asyncio.Future[Any], None] = {}
        process.connections[self] = None

    def connected(self) -> bool:
        """Return whether it can be sent on."""
        return self._is_open

    def send(self, request: Any, expect_response: bool = True) -> asyncio.Future[Any]:  # noqa: FBT001, FBT002  # aiokafka's signature
        """Send a request; the future has its answer, or what became of the connection."""
        assert expect_response
        if not self._is_open:
            raise KafkaConnectionError("the connection is closed")
        prepared = request.prepare(self._network.broker.versions)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[answer] = None
        answer.add_done_callback(self._forget)
        self._network.carry(self, prepared, answer)
        return answer

    def close(self, reason: Any = None, **_error: Any) -> asyncio.Future[None]:
        """Close it from this end."""
        if self._is_open:
            self._is_open = False
            self.process.connections.pop(self, None)
            self._fail_all(KafkaConnectionError("the connection was closed"))
            if self._on_close is not None:
                self._on_close(self, reason)
        closed = asyncio.get_running_loop().create_future()
        closed.set_result(None)
        return closed

    def cut(self) -> None:
        """Break it: what waits for an answer on it gets none. A dead process does not even hear of that."""
        if not self._is_open:
            return
        if self.process.is_alive:
            self.close(CloseReason.CONNECTION_BROKEN)
        else:
            self._is_open = False
            self._waiting.clear()

    def time_out(self, answer: asyncio.Future[Any]) -> None:
        """Let the wait for an answer end."""
        if not answer.done() and self.process.is_alive:
            answer.set_exception(TimeoutError())

    def _fail_all(self, error: BaseException) -> None:
        for answer in list(self._waiting):
            if not answer.done():
                answer.set_exception(error)

    def _forget(self, answer: asyncio.Future[Any]) -> None:
        self._waiting.pop(answer, None)
        if not answer.cancelled():
            answer.exception()


def _resolve(answer: asyncio.Future[Any], response: Any) -> None:
    if not answer.done():
        answer.set_result(response)


@contextmanager
def connected(network: Network) -> Iterator[None]:
    """Let aiokafka's clients connect to the model."""

    async def create_conn(
        _host: str, _port: int, *, client_id: str, request_timeout_ms: int, on_close: Any = None, **_options: Any
    ) -> Connection:
        await asyncio.sleep(0)
        return network.connect(client_id, on_close, request_timeout_ms / 1_000)

    with patch("aiokafka.client.create_conn", create_conn):
        yield
