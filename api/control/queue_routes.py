"""The queues, and who works them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.control import schemas
from api.control.worker_routes import living_workers
from api.dependencies import Parts, documented_problems, json_response, now_ms
from api.server.schemas import Kind  # noqa: TC001  # FastAPI reads annotations when it runs
from api.view.answers import describe_view
from api.view.queues import queues_of
from app.topics.queues import routes_of

router = APIRouter(prefix="/queues", tags=["workers"])


@router.get("", response_model=schemas.QueueList, responses=documented_problems(422, 503), summary="List the queues")
async def read_queues(
    parts: Parts, kind: Annotated[Kind | None, Query(description="Only the queue of this kind. Default: all")] = None
) -> Response:
    """Return each queue with its kinds, its running workers, and its tasks by state."""
    alive, routes = await living_workers(parts), routes_of(parts.settings)
    queues = [
        schemas.QueueAnswer(
            name=one.name,
            topic=parts.settings.names.requests(one.name),
            kinds=one.kinds,
            workers_count=len(one.workers),
            in_flight=sum(worker.in_flight for worker in one.workers),
            tasks_queued=one.counts.queued_now,
            tasks_in_progress=one.counts.in_progress_now,
            tasks_waiting_retry=one.counts.retrying_now,
        )
        for one in queues_of(routes, parts.view.statistics.totals(), alive)
        if kind is None or one.name == routes.queue(kind)
    ]
    return json_response(schemas.QueueList(queues, describe_view(parts.view, now_ms(parts))))
