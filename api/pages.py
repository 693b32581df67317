"""Puts pages, forms, live parts and static files into the application."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from api.control import page as control
from api.control import page_acts as control_acts
from api.control import workers_page as workers
from api.dashboard import problems
from api.dashboard.drawing import STATIC
from api.dashboard.forms import carry_out
from api.dashboard.live import LiveParts
from api.dashboard.negotiation import DataRoute, FormRoute, PageRoute, wants_page
from api.dashboard.own_site import OwnSiteOnly
from api.dashboard.site import show, tell
from api.dead_letters import page as dead_letters
from api.dead_letters import page_acts as letter_acts
from api.objects import list_page as objects
from api.objects import object_page as one_object
from api.objects import page_acts as object_acts
from api.objects import submit_page as submit
from api.objects import task_page as one_task
from api.schedules import page as schedules
from api.schedules import page_acts as schedule_acts
from api.server import problems as documents
from api.statistics import overview_page as overview
from api.statistics import windows_page as windows
from api.view.behind import ViewBehind
from api.waiting import page as waiting
from api.waiting import page_acts as waiting_acts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from api.dashboard.forms import Act
    from api.dashboard.site import Page

PAGES = (
    overview.PAGE,
    windows.PAGE,
    objects.PAGE,
    one_object.PAGE,
    one_task.PAGE,
    workers.PAGE,
    waiting.PAGE,
    schedules.PAGE,
    dead_letters.PAGE,
    dead_letters.LETTER_PAGE,
    control.PAGE,
    submit.PAGE,
)
ACTS = (*object_acts.ACTS, *letter_acts.ACTS, *control_acts.ACTS, *schedule_acts.ACTS, *waiting_acts.ACTS)
_WITHOUT_API_PATH = (submit.PAGE,)
"""Pages whose path the API does not have: they answer JSON themselves."""


def install(app: FastAPI, foreign_origins: Sequence[str] = ()) -> None:
    """Mount the dashboard; before the API's routers, which have the same paths for programs.

    Pages of `foreign_origins` may act as ours do.
    """
    problems.install(app, (documents.Problem, ViewBehind, HTTPException, RequestValidationError, Exception))
    app.add_middleware(OwnSiteOnly, refuse=_refuse, origins=frozenset(foreign_origins))
    app.router.routes.extend(_routes(LiveParts(app)))


def _routes(live: LiveParts) -> list[BaseRoute]:
    routes: list[BaseRoute] = [Mount("/static", StaticFiles(directory=STATIC)), Route("/favicon.ico", _icon)]
    for page in PAGES:
        routes.append(PageRoute(page.path, _shown(page)))
        routes.append(Route(f"/live{page.path}", _followed(live, page)))
    routes += [FormRoute(act.path, _carried_out(act), methods=["POST"]) for act in ACTS]
    # `/` leads whoever asks for nothing by name to the documentation, as it did before there were pages.
    routes += [DataRoute(overview.PAGE.path, _told(overview.PAGE))]
    routes += [Route(page.path, _told(page)) for page in _WITHOUT_API_PATH]
    return routes


def _shown(page: Page) -> Any:
    async def answer(request: Request) -> Response:
        return await show(request, page)

    return answer


def _followed(live: LiveParts, page: Page) -> Any:
    async def answer(request: Request) -> Response:
        return live.answer(request, page)

    return answer


def _carried_out(act: Act) -> Any:
    async def answer(request: Request) -> Response:
        return await carry_out(request, act)

    return answer


def _told(page: Page) -> Any:
    async def answer(request: Request) -> Response:
        return await tell(request, page)

    return answer


async def _icon(_request: Request) -> Response:
    return FileResponse(STATIC / "icon.svg")


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope)
    detail = "this request comes from a page of another site: send it from the dashboard, or from no page at all"
    problem = documents.Problem(HTTPStatus.FORBIDDEN, "other-site", detail)
    if wants_page(scope):
        response = problems.problem_page(request, problem.status, {"title": "Forbidden", "detail": detail})
    else:
        response = documents.answer(request, problem)
    await response(scope, receive, send)
