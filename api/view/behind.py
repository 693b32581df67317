"""What a view raises that cannot tell yet, and how every route answers it: a 503 that says when to come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.server import problems

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response


class ViewBehind(Exception):
    """The view cannot tell yet; `str()` of one is a sentence for people."""


def install(app: FastAPI) -> None:
    """Let routes raise `ViewBehind`."""
    app.add_exception_handler(ViewBehind, _on_view_behind)


async def _on_view_behind(request: Request, error: Exception) -> Response:
    return problems.answer(request, problems.unavailable("view-behind", str(error)))
