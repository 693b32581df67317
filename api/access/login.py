"""The login of browsers: a form for a key, which becomes a session in a cookie that scripts cannot read.

The cookie is SameSite=Strict, and the dashboard takes nothing from pages of other sites (`api.dashboard.own_site`), so
no other site can act with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from api.access.gate import LOGIN_PATH, SESSION_COOKIE
from api.access.keys import SESSION_S
from api.control.answers import commander_of
from api.dashboard.drawing import draw
from api.dashboard.site import PAGE_HEADERS
from api.submit.body import read_bytes

if TYPE_CHECKING:
    from starlette.requests import Request

    from api.access.sessions import Sessions

_MAX_FORM_BYTES = 8_192
_SEE_OTHER = 303
_OK = 200
_UNAUTHORIZED = 401
_REFUSED = "This is none of the API's keys."


def routes_of(sessions: Sessions) -> list[Route]:
    """Return the login and the logout."""

    async def show(request: Request) -> Response:
        return _page(request.query_params.get("next", "/"))

    async def log_in(request: Request) -> Response:
        form = parse_qs((await read_bytes(request, _MAX_FORM_BYTES, "a login form")).decode("utf-8", "replace"))
        key, wanted = form.get("key", [""])[0].strip(), form.get("next", ["/"])[0]
        session = sessions.begin(key)
        if session is None:
            return _page(wanted, _REFUSED)
        response = RedirectResponse(_local(wanted), _SEE_OTHER, {"Cache-Control": "no-store"})
        response.set_cookie(
            SESSION_COOKIE,
            session,
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def log_out(request: Request) -> Response:
        # First in every process: a cookie that was taken away here may live on elsewhere.
        session = sessions.find(request.cookies.get(SESSION_COOKIE, ""))
        if session is not None:
            await sessions.end(session, commander_of(request.app.state.collaborators))
        response = RedirectResponse(LOGIN_PATH, _SEE_OTHER)
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
        return response

    return [
        Route(LOGIN_PATH, show, methods=["GET"]),
        Route(LOGIN_PATH, log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
    ]


def _page(wanted: str, refused: str = "") -> Response:
    context = {"page": None, "trouble": None, "said": "", "refused": None, "wanted": _local(wanted), "wrong": refused}
    return HTMLResponse(draw("login.html", context), _UNAUTHORIZED if refused else _OK, PAGE_HEADERS)


def _local(wanted: str) -> str:
    """Return a path of ours: a link to the login must not lead on to another site."""
    is_path = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if is_path and "\\" not in wanted else "/"
