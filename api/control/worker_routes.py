"""Which workers live, and how they are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response

from api.control import schemas as schemas
from api.control.answers import now_ms
from api.dependencies import Collaborators, Parts, documented_problems, json_response
from api.server import problems
from api.view.answers import describe_view
from api.view.view import ViewBehind

if TYPE_CHECKING:
    from app.rules.worker_heartbeats import Heartbeat

router = APIRouter(prefix="/workers", tags=["workers"])


@router.get(
    "", response_model=schemas.WorkerList, responses=documented_problems(422, 503), summary="Which workers live?"
)
async def read_workers(
    parts: Parts, role: Annotated[schemas.Role | None, Query(description="Only this role; left out: all")] = None
) -> Response:
    """Answer with the last word of each worker that was heard within 10 s."""
    workers = [one for one in await living_workers(parts) if role in {None, one.role}]
    view = describe_view(parts.view, now_ms(parts))
    return json_response({"namespace": parts.settings.namespace, "workers": workers, "view": view})


async def living_workers(parts: Collaborators) -> list[Heartbeat]:
    """Return the last heartbeat of each worker that is not gone. Raises `Problem` (503)."""
    try:
        # A view that was away for a while would take everybody for gone.
        await parts.view.catch_up(parts.view.names.workers)
    except ViewBehind as error:
        raise problems.unavailable("view-behind", str(error)) from error
    return [heard.heartbeat for heard in parts.view.workers.alive(parts.submitter.clock_ms())]
