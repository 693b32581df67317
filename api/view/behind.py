"""The error of a view that cannot answer yet. Every route answers it with a 503 and `Retry-After`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.server import problems

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response


class ViewBehind(Exception):
    """The view cannot answer yet; the message is a sentence for people."""


def install(app: FastAPI) -> None:
    """Let routes raise `ViewBehind`."""
    app.add_exception_handler(ViewBehind, _on_view_behind)


async def _on_view_behind(request: Request, error: Exception) -> Response:
    return problems.answer(request, problems.unavailable("view-behind", str(error)))
