"""Carries out the steps of `ebs.client` for a person at a terminal, and says if the API has not answered yet."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import httpx

from ebs.client.drivers import BlockingDriver
from ebs.client.http import CONNECT_S, TIMEOUT_S, request_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebs.client.settings import ClientSettings
    from ebs.client.steps import ApiCall

_FIRST_CONNECT_S = 0.5
"""After it a person is told that nobody answers: within a second of the start of a command."""
_SILENT_S = 0.6
"""After it a person is told that an API which takes connections has not answered yet."""


class TellingDriver(BlockingDriver):
    """`say(line)` is called in a thread of its own. It goes on trying for `CONNECT_S`, and waiting for `TIMEOUT_S`."""

    def __init__(
        self, settings: ClientSettings, transport: httpx.BaseTransport | None, say: Callable[[str], None]
    ) -> None:
        super().__init__(settings, TIMEOUT_S, transport, _FIRST_CONNECT_S)
        self._url = settings.api_url
        self._say = say

    def send(self, asked: ApiCall) -> httpx.Response:
        """Make one call."""
        try:
            return self._send(asked)
        except httpx.ConnectTimeout:
            self._say(f"no API answers at {self._url} yet; trying for {CONNECT_S:g} s more")
            return self._send(asked, connect_s=CONNECT_S)

    def _send(self, asked: ApiCall, connect_s: float = _FIRST_CONNECT_S) -> httpx.Response:
        """Ask; says so if the answer takes longer than one that is about to come, unless it was asked to wait."""
        request = request_of(self.http, asked)
        request.extensions["timeout"]["connect"] = connect_s
        said = f"waiting for an answer from {self._url}, up to {TIMEOUT_S:g} s"
        timer = threading.Timer(_SILENT_S, self._say, (said,))
        timer.daemon = True
        if not asked.params.get("wait"):
            timer.start()
        try:
            return self.http.send(request)
        finally:
            timer.cancel()
