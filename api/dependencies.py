"""What routes need, handed to them by FastAPI from the application that they are mounted in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from fastapi import Depends, Request
from starlette.responses import Response

from api.server.documented import reference_to
from api.server.schemas import ObjectLinks, ProblemDocument
from app.rules.timeline import name_of
from ebs.client.segments import segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.redrive.bulk_redrive import BulkRedriver
    from api.redrive.redrive import Redriver
    from api.server.closing import Closing
    from api.server.documented import RequestBody
    from api.server.event_stream import StreamLimits
    from api.submit.publisher import Publisher
    from api.submit.submission import Submitter
    from api.view.event_log import EventLog
    from api.view.metrics import SystemMetrics
    from api.view.statistics_updates import StatisticsUpdates
    from api.view.task_history import TaskHistories
    from api.view.view import View
    from app.settings.settings import Settings


class Collaborators(NamedTuple):
    """The parts that `create_http_app` was given."""

    settings: Settings
    publisher: Publisher
    view: View
    submitter: Submitter
    redriver: Redriver
    bulk_redriver: BulkRedriver
    closing: Closing
    events: EventLog
    histories: TaskHistories
    updates: StatisticsUpdates
    streams: StreamLimits
    metrics: SystemMetrics
    why_not_live: Callable[[], str | None]


async def _collaborators(request: Request) -> Collaborators:
    parts: Collaborators = request.app.state.collaborators
    return parts


Parts = Annotated[Collaborators, Depends(_collaborators)]


def now_ms(parts: Collaborators) -> int:
    """Return the time now, in epoch ms."""
    return parts.submitter.clock_ms()


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON; msgspec takes a tenth of the time that pydantic needs for the same."""
    return Response(msgspec.json.encode(content), status_code=status, headers=headers, media_type="application/json")


def object_links(object_id: str) -> ObjectLinks:
    """Return the links of an object."""
    path = f"/api/objects/{segment(object_id)}"
    return ObjectLinks(path, f"{path}/tasks", f"{path}/events", "/api/statistics")


def task_link(object_id: str, sequence: int) -> str:
    """Return the link of a task of an object; without `/api` it is the link of its page."""
    return f"/api/objects/{segment(object_id)}/tasks/{name_of(sequence)}"


def documented_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of error answers."""
    content = {"application/problem+json": {"schema": reference_to(ProblemDocument)}}
    return {status: {"description": _MEANING[status], "content": content} for status in statuses}


def documented_body(struct: type[RequestBody], description: str, *, required: bool = False) -> dict[str, Any]:
    """Return what the OpenAPI document says of a body that a route reads itself (`api.submit.body`)."""
    content = {"application/json": {"schema": reference_to(struct)}}
    return {"requestBody": {"required": required, "description": description, "content": content}}


_MEANING = {
    400: "The body is not JSON, or a header is malformed",
    401: "The API key is missing or unknown",
    403: "The API key does not allow this request",
    404: "Nothing has this id",
    409: "The current state does not allow this",
    413: "The body, or the record made from it, is too large",
    415: "The body is not application/json",
    422: "Some fields or parameters are wrong; `errors` lists all of them",
    429: "Kafka does not keep up. Nothing was stored; retry after `Retry-After` seconds",
    500: "Unexpected error; see the log of the API process",
    503: "The broker is unreachable or the view is not up to date; retry after `Retry-After` seconds",
}
