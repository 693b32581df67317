"""A span for each HTTP request, within the trace that the client names; what the request sends hangs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode
from starlette.datastructures import Headers

from api.dashboard.inside import outer_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from app.telemetry.tracing import Tracing

_PROBES = frozenset({"/livez", "/readyz", "/api/livez", "/api/readyz", "/metrics", "/api/metrics"})
_FIRST_SERVER_ERROR = 500
_PREFIX = "/api/"


class RequestTracing:
    """ASGI middleware; probes, and what the dashboard asks of the API inside of a request, make no spans."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http" or outer_of(scope) is not None or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        about = {"http.request.method": method, "url.path": scope["path"], "url.scheme": scope.get("scheme", "http")}
        span = self._tracing.serve(method, dict(Headers(scope=scope)), about)

        async def send_seen(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                span.set_attribute("http.response.status_code", status)
                if status >= _FIRST_SERVER_ERROR:
                    span.set_attribute("error.type", str(status))
                    span.set_status(Status(StatusCode.ERROR))
            await send(message)

        with trace.use_span(span, end_on_exit=True, record_exception=False):
            await self._app(scope, receive, send_seen)
            route = getattr(scope.get("route"), "path_format", None)
            if route is not None:
                # The path with its ids would be another name for each object. Routes do not know their prefix.
                if scope["path"].startswith(_PREFIX) and not route.startswith(_PREFIX):
                    route = _PREFIX[:-1] + route
                span.set_attribute("http.route", route)
                span.update_name(f"{method} {route}")
