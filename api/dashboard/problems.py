"""Errors as a browser shows them: a page instead of a problem document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import HTMLResponse

from api.dashboard.drawing import draw
from api.dashboard.negotiation import wants_page
from api.dashboard.site import PAGE_HEADERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    Handler = Callable[[Request, Exception], Awaitable[Response]]

_API = "/api/"


def install(app: FastAPI, errors: tuple[type[Exception], ...]) -> None:
    """Turn the problem documents that answer `errors` into pages, for browsers and outside of /api."""
    for error in errors:
        app.add_exception_handler(error, _as_page(app.exception_handlers[error]))


def problem_page(request: Request, status: int, problem: Mapping[str, Any], headers: Any = None) -> Response:
    """Answer with a page that says what is wrong."""
    context = {"status": status, "problem": problem, "path": request.url.path, "page": None}
    return HTMLResponse(draw("problem.html", context), status, {**(headers or {}), **PAGE_HEADERS})


def _as_page(handler: Any) -> Handler:
    async def answer(request: Request, error: Exception) -> Response:
        response: Response = await handler(request, error)
        if not wants_page(request.scope) or request.url.path.startswith(_API):
            return response
        kept = {name: value for name, value in response.headers.items() if name in {"allow", "retry-after"}}
        return problem_page(request, response.status_code, msgspec.json.decode(bytes(response.body)), kept)

    return answer
