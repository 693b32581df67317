"""Submit objects, and cancel them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api import control_schemas, problems, schemas
from api.control_answers import commander_of, now_ms
from api.dependencies import Parts, documented_problems, json_response, object_links
from api.object_answers import find_object, row_of
from api.submit import body
from app.rules.commands import Cancel, Family, Place
from app.rules.ledger import ObjectState, state_of_object

router = APIRouter(prefix="/objects", tags=["objects"])

_ENDED_STATES = {ObjectState.FINISHED, ObjectState.FAILED, ObjectState.CANCELLED}

_REQUEST_BODY = {
    "requestBody": {
        "required": False,
        "description": "Left out: an object is made up",
        "content": {
            "application/json": {
                "schema": {"$ref": f"#/components/schemas/{schemas.ObjectRequest.__name__}"},
                "examples": {
                    "one of ours": {"value": {"name": "report", "content": "of the day", "kind": "mail", "tasks": 5}},
                    "made up": {"value": {}},
                },
            }
        },
    }
}


@router.post("/", status_code=202, include_in_schema=False)
@router.post(
    "",
    status_code=202,
    response_model=schemas.ObjectAccepted | schemas.BulkAccepted,
    responses={
        202: {"headers": {"Location": {"description": "The object", "schema": {"type": "string"}}}},
        **documented_problems(400, 413, 415, 422, 503),
    },
    openapi_extra=_REQUEST_BODY,
    summary="Submit an object, or many",
)
async def create_object(
    request: Request,
    parts: Parts,
    count: Annotated[
        int | None, Query(ge=1, le=schemas.MAX_COUNT, description="Make this many, each with an id of its own")
    ] = None,
) -> Response:
    """Answer 202 once the broker has the object, or all of them; without a body objects are made up."""
    wanted = await body.read_object_request(request, parts.settings.max_body_bytes)
    if count is not None:
        ids = await parts.submitter.submit_many(wanted, count)
        links = {"statistics": "/api/statistics"}
        return json_response({"count": count, "status": "accepted", "ids": ids, "links": links}, 202)
    object_id = await parts.submitter.submit(wanted)
    links = object_links(object_id)
    return json_response({"id": object_id, "status": "CREATED", "links": links}, 202, {"Location": links["self"]})


@router.delete(
    "/{object_id}",
    status_code=202,
    response_model=control_schemas.CancelAccepted,
    responses=documented_problems(404, 409, 422, 503),
    summary="Cancel an object",
)
async def cancel_object(
    object_id: str,
    parts: Parts,
    reason: Annotated[control_schemas.Reason, Query()] = "",
) -> Response:
    """None of its tasks starts any more and running ones are cancelled; what has finished stays finished."""
    state = state_of_object(row_of(await find_object(object_id, parts)))
    if state in _ENDED_STATES:
        detail = f"object {object_id} has ended: it is {state}"
        raise problems.conflict("already-ended", detail, {"state": state})
    command = Cancel(object_id=object_id, at_ms=now_ms(parts), reason=reason)
    seen = await commander_of(parts).put(Place(Family.CANCEL_OBJECT, object_id), command)
    return json_response({"id": object_id, "status": "CANCELLING", "seen": seen, "links": object_links(object_id)}, 202)
