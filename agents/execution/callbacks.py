"""Sends callbacks: POSTs the end event of an object to its `callback_url`, signed.

Guarantee: at least once. A worker that dies between the answer and its commit sends the same event again, with the same
`webhook-id`. Connections go to allowed addresses only, checked on each address as it is connected to: DNS cannot change
in between. Redirects are not followed, and no proxy is used: a proxy would resolve the name itself. A receiver that is
slow or silent holds up its own callbacks only (`agents.execution.receivers`).
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from agents.execution.receivers import NoPlace, Receivers
from app.errors import Postponed
from app.rules.callbacks import decode_callback
from app.webhooks.signatures import signed_headers
from ebs.errors import Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp.abc import AbstractResolver

    from agents.execution.receivers import Post
    from app.events import TaskCreated
    from app.webhooks.hosts import WebhookHosts
    from ebs.context import Context

_CONNECT_S = 5.0
_REST_S = 1.0
"""How long the rest of an answer is waited for, so that its connection can be used again."""
_MAX_ANSWER_BYTES = 16_384
_MAX_SHOWN_CHARS = 200
_KEEP_ALIVE_S = 4
"""Many servers close what is idle for 5 s: a POST on its way then would fail."""
_MAX_ASKED_DELAY_S = 3_600
_NO_PLACE_S = (5.0, 30.0)
"""How long a callback waits, at least and at most, if its host has no free place."""


class CallbackFailed(Retry):
    """The receiver did not confirm a callback: it is sent again later."""


class CallbackSender:
    """Sends callbacks from one event loop; connections are kept between them. A handler: call it with a request."""

    def __init__(
        self,
        hosts: WebhookHosts,
        keys: Sequence[bytes],
        timeout_s: float,
        *,
        clock_s: Callable[[], float] = time.time,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """Hold no connection yet. `resolver` finds the addresses of names, None: the system does."""
        self._hosts = hosts
        self._keys = keys
        self._timeout_s = timeout_s
        self._clock_s = clock_s
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._receivers = Receivers()

    async def __call__(self, task: TaskCreated, _context: Context) -> dict[str, int]:
        """Send a callback; returns the status of a receiver that confirmed it.

        Raises `CallbackFailed`; `Reject` where no attempt can succeed.
        """
        try:
            callback = decode_callback(task.content)
            event_id = msgspec.json.decode(callback.event, type=_Identified).id
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Reject(f"its content is not a callback, which has url and event: {error}") from error
        refusal = self._hosts.why_refused(callback.url)
        if refusal is not None:
            raise Reject(refusal)
        try:
            async with self._receivers.place(callback.url) as call:
                return {"status": await self._post(call, callback.url, event_id, bytes(callback.event))}
        except NoPlace as error:
            # Not all at once again: they would only find the same few places.
            raise Postponed(f"not sent, as {error}", random.uniform(*_NO_PLACE_S)) from error

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, call: Post, url: str, event_id: str, body: bytes) -> int:
        headers = signed_headers(self._keys, event_id, int(self._clock_s()), body)
        try:
            async with self._opened().post(url, data=body, headers=headers, allow_redirects=False) as answer:
                call.answered = True
                _check(answer, await beginning_of(answer))
                return answer.status
        except aiohttp.ClientConnectorError as error:
            if error.os_error.errno == _REFUSED:
                raise Reject(f"no callback to {error.host}: {error.os_error.strerror}") from error
            call.answered = False
            raise CallbackFailed(reason=f"no connection: {error}") from error
        except TimeoutError as error:
            call.answered = False
            raise CallbackFailed(reason=f"the receiver did not answer within {self._timeout_s:g} s") from error
        except aiohttp.InvalidURL as error:
            raise Reject(f"no callback to this URL: {error}") from error
        except (aiohttp.ClientError, ValueError) as error:
            call.answered = False
            raise CallbackFailed(reason=f"the receiver did not answer: {type(error).__name__}: {error}") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=_KEEP_ALIVE_S, socket_factory=self._socket, resolver=self._resolver
                ),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=min(_CONNECT_S, self._timeout_s)),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"Content-Type": "application/json", "User-Agent": "ebs", "Accept-Encoding": "identity"},
            )
        return self._session

    def _socket(self, address: Any) -> socket.socket:
        """Return the socket for an address that is about to be connected to."""
        family, sort, protocol, _name, place = address
        refusal = self._hosts.why_address_refused(place[0])
        if refusal is not None:
            raise OSError(_REFUSED, refusal)
        return socket.socket(family, sort, protocol)


_REFUSED = errno.EACCES


class _Identified(msgspec.Struct):
    id: str


async def beginning_of(answer: aiohttp.ClientResponse) -> bytes:
    """Return the beginning of an answer's body, bounded in bytes and time; an error while it is read only ends it."""
    read = bytearray()
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_REST_S):
            while len(read) < _MAX_ANSWER_BYTES and (chunk := await answer.content.read(_MAX_ANSWER_BYTES)):
                read += chunk
    return bytes(read)


def _check(answer: aiohttp.ClientResponse, body: bytes) -> None:
    """Raise if the receiver did not confirm."""
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    said = f"the receiver answered {status} {answer.reason or ''}".rstrip()
    if status == HTTPStatus.GONE:
        raise Reject(f"{said}: it wants no more callbacks")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        where = answer.headers.get("Location", "")[:_MAX_SHOWN_CHARS]
        raise CallbackFailed(reason=f"{said} to {where!r}: redirects are not followed, submit with that URL")
    shown = body[:_MAX_SHOWN_CHARS].decode(errors="replace")
    raise CallbackFailed(_asked_delay_s(answer), f"{said}: {shown!r}" if shown else said)


def _asked_delay_s(answer: aiohttp.ClientResponse) -> float | None:
    """Return the seconds that a busy receiver asks for, None if it does not, or asks for none."""
    text = answer.headers.get("Retry-After", "")
    if not text.isascii() or not text.isdecimal():
        return None
    return min(int(text[:9]), _MAX_ASKED_DELAY_S) or None
