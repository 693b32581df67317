"""How far the read view is behind the topics, in every answer: as headers, and as `view` in bodies that have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from api.server.schemas import ViewAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from api.view.view import View

LAG_RECORDS_HEADER = "Ebs-View-Lag-Records"
"""Committed records that the view does not hold yet; left out while it is not known."""
LAG_MS_HEADER = "Ebs-View-Lag-Ms"
"""The view holds at least all that was committed so many ms ago; left out while it is not known."""


def describe_view(view: View, now_ms: int) -> ViewAnswer:
    """Return how far the view is behind, as answers show it."""
    progress = view.progress
    as_of_ms = progress.as_of_ms
    lag_ms = None if as_of_ms is None else max(0, now_ms - as_of_ms)
    return ViewAnswer(progress.lag_records, lag_ms, as_of_ms)


class ViewHeaders:
    """Adds the headers to every answer of an application, errors and streams among them."""

    def __init__(self, app: ASGIApp, view: View, clock_ms: Callable[[], int]) -> None:
        self._app = app
        self._view = view
        self._clock_ms = clock_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_to(message)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _add_to(self, message: Message) -> None:
        described = describe_view(self._view, self._clock_ms())
        headers = MutableHeaders(scope=message)
        for name, value in ((LAG_RECORDS_HEADER, described.lag_records), (LAG_MS_HEADER, described.lag_ms)):
            if value is not None:
                headers[name] = str(value)
