"""Submit objects: one, many of one payload, or a batch of different ones."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from api import schemas
from api.dependencies import Parts, documented_problems, json_response, object_links
from api.submit import body

router = APIRouter(prefix="/objects", tags=["objects"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A String of RFC 9651, or the bare key, 1 to 255 characters. The same key and payload again within "
        "EBS_SEEN_RETENTION_H get the same answer, and make nothing new",
        examples=['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
    ),
]

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
        **documented_problems(400, 409, 413, 415, 422, 429, 503),
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
    _idempotency_key: IdempotencyKey = None,
) -> Response:
    """Answer 202 once the broker has the object, or all of them; without a body objects are made up."""
    key = body.read_key(request)
    wanted = await body.read_payload(request, parts.settings.max_body_bytes)
    if count is not None:
        ids = await parts.submitter.submit_many(wanted, count, key)
        links = {"statistics": "/api/statistics"}
        return json_response({"count": count, "status": "accepted", "ids": ids, "links": links}, 202)
    object_id = await parts.submitter.submit(wanted, key)
    links = object_links(object_id)
    return json_response({"id": object_id, "status": "CREATED", "links": links}, 202, {"Location": links["self"]})
