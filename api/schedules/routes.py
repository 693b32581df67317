"""Schedules: set, read, pause, run and delete them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator

from api.dependencies import Parts, documented_body, documented_problems, json_response, now_ms, object_links
from api.schedules import changes, schemas
from api.schedules.answers import in_full_fields, listed
from api.submit.body import read_key, read_struct
from api.submit.schemas import ObjectAccepted
from api.view.answers import describe_view
from app.rules.schedules import NAME_IN_WORDS, checked_name

if TYPE_CHECKING:
    from app.rules.schedules import Schedule

router = APIRouter(prefix="/schedules", tags=["schedules"])

NameInPath = Annotated[
    str, AfterValidator(checked_name), Path(description=f"Name: {NAME_IN_WORDS}", examples=["nightly-report"])
]
MAX_LIMIT = 200


def _change(*statuses: int) -> dict[str, Any]:
    """Return how the route of a change answers and is documented."""
    return {
        "status_code": 202,
        "response_model": schemas.ScheduleAccepted,
        "responses": documented_problems(*sorted((*statuses, 422, 503))),
    }


@router.get(
    "",
    response_model=schemas.SchedulePage,
    responses=documented_problems(422, 503),
    summary="List schedules by name",
)
async def read_schedules(
    parts: Parts,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Maximum number of schedules")] = 50,
    cursor: Annotated[str, Query(max_length=64, description="`next_cursor` of the previous page")] = "",
) -> Response:
    """Return all schedules that any API process acknowledged before this request."""
    await parts.view.catch_up(parts.view.names.schedules)
    names = [name for name in parts.view.schedules.names() if name > cursor]
    found = [one for one in map(parts.view.schedules.find, names[:limit]) if one is not None]
    page = schemas.SchedulePage(
        schedules=[listed(parts, one) for one in found],
        next_cursor=names[limit - 1] if len(names) > limit else None,
        view=describe_view(parts.view, now_ms(parts)),
    )
    return json_response(page)


@router.get(
    "/{name}",
    response_model=schemas.ScheduleAnswer,
    responses=documented_problems(404, 422, 503),
    summary="Get a schedule",
)
async def read_schedule(name: NameInPath, parts: Parts) -> Response:
    """Return when a schedule fires, with its next five instants, and the object that it makes."""
    schedule = await changes.find_schedule(parts, name)
    view = describe_view(parts.view, now_ms(parts))
    return json_response(schemas.ScheduleAnswer(**in_full_fields(parts, schedule), view=view))


@router.put(
    "/{name}",
    summary="Set a schedule",
    openapi_extra=documented_body(
        schemas.ScheduleAsked, "The whole schedule: what is left out gets its default", required=True
    ),
    **_change(400, 413, 415),
)
async def set_schedule(name: NameInPath, request: Request, parts: Parts) -> Response:
    """Set a new schedule, or replace one. Each of its instants submits one object, exactly once.

    If only its object changes, its next instant stays. If its timing changes, it counts from now.
    """
    asked = await read_struct(request, parts.settings.max_body_bytes, schemas.ScheduleAsked)
    return json_response(await changes.put(parts, changes.schedule_of(parts, name, asked)), 202)


@router.delete("/{name}", summary="Delete a schedule", **_change(404))
async def delete_schedule(name: NameInPath, parts: Parts) -> Response:
    """Delete a schedule. Objects that it has made go on."""
    await changes.find_schedule(parts, name)
    return json_response(await changes.delete(parts, name), 202)


@router.post("/{name}/pause", summary="Pause a schedule", **_change(404))
async def pause_schedule(name: NameInPath, parts: Parts) -> Response:
    """Fire nothing until it is resumed. Instants during the pause are skipped, and not fired later."""
    return await _pause(parts, await changes.find_schedule(parts, name), paused=True)


@router.post("/{name}/resume", summary="Resume a schedule", **_change(404))
async def resume_schedule(name: NameInPath, parts: Parts) -> Response:
    """Fire again, from the next instant on."""
    return await _pause(parts, await changes.find_schedule(parts, name), paused=False)


@router.post(
    "/{name}/run",
    status_code=202,
    response_model=ObjectAccepted,
    responses=documented_problems(400, 404, 409, 413, 422, 429, 503),
    summary="Run a schedule now",
)
async def run_schedule(name: NameInPath, request: Request, parts: Parts) -> Response:
    """Submit the object of a schedule now, also if it is paused. Its instants stay as they are.

    With an `Idempotency-Key` it is safe to repeat, as for `POST /api/objects`.
    """
    schedule = await changes.find_schedule(parts, name)
    object_id = await parts.submitter.submit(changes.payload_of(schedule), read_key(request))
    links = object_links(object_id)
    return json_response(ObjectAccepted(object_id, "CREATED", links), 202, {"Location": links.self})


async def _pause(parts: Parts, schedule: Schedule, *, paused: bool) -> Response:
    return json_response(await changes.put(parts, changes.with_pause(parts, schedule, paused=paused)), 202)
