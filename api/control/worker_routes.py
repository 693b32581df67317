"""The running workers and their state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response

from api.control import schemas
from api.dependencies import Collaborators, Parts, documented_problems, json_response, now_ms
from api.view.answers import describe_view
from ebs.queues import MAX_QUEUE_CHARS

if TYPE_CHECKING:
    from app.rules.worker_heartbeats import Heartbeat

router = APIRouter(prefix="/workers", tags=["workers"])


@router.get(
    "", response_model=schemas.WorkerList, responses=documented_problems(422, 503), summary="List the live workers"
)
async def read_workers(
    parts: Parts,
    role: Annotated[schemas.Role | None, Query(description="Only this role. Default: all")] = None,
    queue: Annotated[
        str | None, Query(max_length=MAX_QUEUE_CHARS, description="Only processing workers of this queue")
    ] = None,
) -> Response:
    """Return the last heartbeat of each worker that sent one within 10 s."""
    alive = await living_workers(parts)
    workers = [one for one in alive if role in {None, one.role} and queue in {None, one.queue}]
    view = describe_view(parts.view, now_ms(parts))
    return json_response(schemas.WorkerList(parts.settings.namespace, workers, view))


async def living_workers(parts: Collaborators) -> list[Heartbeat]:
    """Return the last heartbeat of each running worker. Raises `ViewBehind`."""
    # A view that is behind would miss the newest heartbeats and list no worker.
    await parts.view.catch_up(parts.view.names.workers)
    return [heard.heartbeat for heard in parts.view.workers.alive(now_ms(parts))]
