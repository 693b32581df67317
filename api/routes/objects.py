"""Submit objects, and follow them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from api import problems, schemas
from api.dependencies import Parts, documented_problems, json_response, object_links
from api.submit import body
from api.view.view import Found, ViewBehind
from app.rules.ledger import ObjectRow, describe_object, describe_task

router = APIRouter(prefix="/objects", tags=["objects"])

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


@router.get(
    "/{object_id}",
    response_model=schemas.ObjectAnswer,
    responses=documented_problems(404, 503),
    summary="Look at an object",
)
async def read_object(object_id: str, parts: Parts) -> Response:
    """Answer with the object and how far its tasks are; never 404 for one that was accepted."""
    found = await _find(object_id, parts)
    record = found.record
    answer = {
        **describe_object(object_id, _row_of(found)),
        "name": None if record is None else record.name,
        "content": None if record is None else record.content,
        "links": object_links(object_id),
    }
    return json_response(answer)


@router.get(
    "/{object_id}/tasks",
    response_model=schemas.TaskList,
    responses=documented_problems(404, 503),
    summary="Look at an object's tasks",
)
async def read_tasks(object_id: str, parts: Parts) -> Response:
    """Answer with the tasks by sequence, their results among them."""
    row = _row_of(await _find(object_id, parts))
    tasks = [_describe_task(object_id, row, sequence) for sequence in range(len(row.tasks))]
    return json_response({"object_id": object_id, "tasks": tasks})


async def _find(object_id: str, parts: Parts) -> Found:
    try:
        found = await parts.view.find(object_id)
    except ViewBehind as error:
        raise problems.unavailable("view-behind", str(error)) from error
    if found is None:
        raise problems.not_found(f"there is no object {object_id}")
    return found


def _row_of(found: Found) -> ObjectRow:
    """Return the ledger row; what it would be if nothing but OBJECT_CREATED had been counted, where there is none."""
    if found.row is not None:
        return found.row
    record = found.record
    assert record is not None  # one of the two is there
    return ObjectRow(kind=record.kind, task_count=record.task_count or 0, created_at_ms=record.at_ms)


def _describe_task(object_id: str, row: ObjectRow, sequence: int) -> dict[str, Any]:
    result = row.tasks[sequence].result
    return {**describe_task(object_id, row, sequence), "result": msgspec.Raw(result) if result else None}
