"""What a client may cost this process before it has made a request: uvicorn's default parser has no bound of its own.

Without these, anybody who reaches the port fills the memory with one endless header, or takes all descriptors with
connections that never say anything, and no key is asked for. uvicorn chooses the class of its connections before it
loads the application, so that class is told here to make connections of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

MAX_HEAD_BYTES = 65_536
"""Of a request's first line and headers, and of its trailers: as many as uvicorn's other parser, h11, takes."""
HEAD_LIMIT_S = 30.0
"""How long a connection may be without a request, or a request without the end of its head."""


def bound_connections(head_limit_s: float = HEAD_LIMIT_S) -> None:
    """Give every new connection of this process's server its bounds, whatever its command line says."""
    _Timed.head_limit_s = head_limit_s
    for known, ours in ((H11Protocol, _TimedH11), (HttpToolsProtocol, _BoundedHttpTools)):
        known.__new__ = _maker_of(ours)  # type: ignore[method-assign]


def _maker_of(ours: type[Any]) -> Any:
    return staticmethod(lambda _cls, *_args, **_options: object.__new__(ours))


class _Timed:
    """Closes a connection on which no request is in work if none begins in time."""

    head_limit_s = HEAD_LIMIT_S
    cycle: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _head_is_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]  # this is mixed into uvicorn's classes
        self._head_is_due = self.loop.call_later(self.head_limit_s, self._close_idle)

    def connection_lost(self, error: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(error)  # type: ignore[misc]  # as above

    def data_received(self, data: bytes) -> None:
        super().data_received(data)  # type: ignore[misc]  # as above
        if not self._is_idle():
            self._forget_head()
        elif self._head_is_due is None and not self.transport.is_closing():
            self._head_is_due = self.loop.call_later(self.head_limit_s, self._close_idle)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _forget_head(self) -> None:
        if self._head_is_due is not None:
            self._head_is_due.cancel()
            self._head_is_due = None

    def _close_idle(self) -> None:
        self._head_is_due = None
        if self._is_idle():
            self.transport.close()


class _TimedH11(_Timed, H11Protocol):
    """h11 bounds heads and pipelined requests itself."""


class _BoundedHttpTools(_Timed, HttpToolsProtocol):
    """`_useless_bytes` came since the last part of a request that was whole: a head, or some of a body."""

    _useless_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._useless_bytes += len(data)
        super().data_received(data)
        if self._useless_bytes <= MAX_HEAD_BYTES or self.transport.is_closing():
            return
        if self._is_idle():
            self.send_400_response(f"A request's head has at most {MAX_HEAD_BYTES} bytes.")
        else:
            self.transport.close()  # an answer here would stand in the middle of another one

    def on_headers_complete(self) -> None:
        self._useless_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._useless_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline:
            # uvicorn reads on after each answer, so that requests would come in faster than they are answered.
            self.flow.pause_reading()
