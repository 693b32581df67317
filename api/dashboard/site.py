"""What a page is, and how one is answered: loaded from the API, drawn, with its trouble drawn in its place."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

import msgspec
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import compile_path

from api.dashboard.drawing import draw
from api.dashboard.inside import Inside, Refused
from api.dependencies import json_response
from api.server.problems import MEDIA_TYPE
from api.server.query_names import refuse_unknown
from ebs.client.segments import segment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

SAID_COOKIE = "ebs_said"
_SAID_FOR_S = 30
_MAX_SAID_CHARS = 600
_UNAVAILABLE = 503
_SEE_OTHER = 303

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # The same address answers JSON to others: no cache may hand one of them out for the other.
    "Vary": "Accept",
    "Cache-Control": "no-store",
}


class Asked(NamedTuple):
    """What a page is loaded from: parts of the path, the query, the API, the time now (epoch ms), what `health` is."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    inside: Inside
    now_ms: int
    health: Mapping[str, Any] = MappingProxyType({})

    @property
    def kinds(self) -> list[str]:
        """Return the kinds that anything was counted of."""
        return sorted(self.health["statistics"].get("kinds", {}))


class Page(NamedTuple):
    """A page: `load` returns what its template needs; `data` of that is what a program gets, where no API path is.

    `load_once` is for what is not drawn again; `every_s` says for a query how often the rest is.
    """

    path: str
    template: str
    title: str
    load: Callable[[Asked], Awaitable[dict[str, Any]]]
    load_once: Callable[[Asked], Awaitable[dict[str, Any]]] | None = None
    every_s: Callable[[Mapping[str, str]], float] = lambda _query: 1.0

    @property
    def path_format(self) -> str:
        """Return the path for `format`: without the convertors of its parameters."""
        return compile_path(self.path)[1]


def asked_of(request: Request) -> Asked:
    """Return what is asked for."""
    inside = Inside(request.app, request.scope)
    now_ms = request.app.state.collaborators.submitter.clock_ms()
    return Asked(request.path_params, dict(request.query_params), inside, now_ms)


async def load(page: Page, asked: Asked) -> tuple[dict[str, Any], int]:
    """Return the context of a page and its status; a refusal of the API becomes `trouble`."""
    health = await health_of(asked.inside)
    base: dict[str, Any] = {"page": page, "now_ms": asked.now_ms, "query": asked.query, "health": health}
    try:
        context = await page.load(asked._replace(health=health))
    except Refused as error:
        return base | {"trouble": error.problem}, error.status
    return base | {"trouble": None} | context, 200


async def health_of(inside: Inside) -> dict[str, Any]:
    """Return the checks of readiness, how far behind the view is, the totals and their audit."""
    ready, statistics, audit = await asyncio.gather(
        _or_problem(inside, "/api/readyz", verbose=1),
        _or_problem(inside, "/api/statistics"),
        _or_problem(inside, "/api/statistics/audit"),
    )
    checks = {check["name"]: check for check in ready.get("checks", ())}
    return {"checks": checks, "view": statistics.get("view"), "statistics": statistics, "audit": audit}


async def _or_problem(inside: Inside, path: str, **query: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = await inside.get(path, **query)
    except Refused as error:
        return error.problem
    return found


async def show(request: Request, page: Page, extra: dict[str, Any] | None = None, status: int = 0) -> Response:
    """Answer with a page; `extra` holds what a form that was refused has to say, `status` its status."""
    asked = asked_of(request)
    context, found_status = await load(page, asked)
    if page.load_once is not None and context["trouble"] is None:
        context |= await page.load_once(asked)
    said = unquote(request.cookies.get(SAID_COOKIE, ""))[:_MAX_SAID_CHARS]
    system = request.app.state.collaborators.settings.namespace
    context |= {
        "system": system,
        "said": said,
        "refused": None,
        "live": _live_address(request, page),
        "typed": {},
        **(extra or {}),
    }
    context["typed"] = defaultdict(str, context["typed"])
    response = HTMLResponse(draw(page.template, context), status or found_status, PAGE_HEADERS)
    if found_status == _UNAVAILABLE:
        response.headers["Retry-After"] = "2"
    if said:
        response.delete_cookie(SAID_COOKIE, samesite="strict", httponly=True)
    return response


async def tell(request: Request, page: Page) -> Response:
    """Answer with what a page is drawn from, as JSON."""
    refuse_unknown(request)
    context, status = await load(page, asked_of(request))
    if context["trouble"] is not None:
        headers = {"Content-Type": MEDIA_TYPE, "Vary": "Accept"}
        return Response(msgspec.json.encode(context["trouble"]), status, headers)
    return json_response(context["data"], headers={"Vary": "Accept"})


def _live_address(request: Request, page: Page) -> str:
    """Return where the page's live part comes from; its own path also where a form is answered at another one."""
    path = page.path_format.format(**{name: segment(value) for name, value in request.path_params.items()})
    query = f"?{request.url.query}" if request.url.query and request.method == "GET" else ""
    return f"/live{path}{query}"


def go_to(path: str, said: str) -> Response:
    """Answer a form that was carried out: see there (303), where it is said what was done."""
    response = RedirectResponse(path, _SEE_OTHER)
    response.set_cookie(
        SAID_COOKIE, quote(said[:_MAX_SAID_CHARS]), max_age=_SAID_FOR_S, samesite="strict", httponly=True
    )
    return response
