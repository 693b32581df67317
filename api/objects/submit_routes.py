"""Submit objects: one, many of one payload, or a batch of different ones."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response

from api.dependencies import Parts, documented_problems, json_response, object_links
from api.server import problems
from api.server.documented import reference_to
from api.submit import body, schemas
from api.submit.array_count import ArrayCount
from api.submit.batch import CHUNK_COUNT, Batch, split_array, whole_problem
from api.submit.batch_stream import NDJSON_TYPES, NdjsonResponse, drain, results_of

if TYPE_CHECKING:
    from app.settings.settings import Settings

router = APIRouter(prefix="/objects", tags=["objects"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A String of RFC 9651, or the bare key, 1 to 255 characters. A request with the same key and "
        "payload within EBS_SEEN_RETENTION_H gets the same answer and creates nothing new",
        examples=['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
    ),
]

_REQUEST_BODY = {
    "requestBody": {
        "required": False,
        "description": "Without a body the API generates an object. If a project is set: 422 (see EBS_GENERATE)",
        "content": {
            "application/json": {
                "schema": reference_to(schemas.ObjectRequest),
                "examples": {
                    "one of ours": {
                        "value": {"name": "report", "content": {"day": "2026-11-24"}, "kind": "mail", "tasks": 5}
                    },
                    "a task for each item": {
                        "value": {
                            "kind": "order",
                            "tasks": [{"content": {"sku": "a"}}, {"content": {"sku": "b"}, "name": "second"}],
                        }
                    },
                    "made up": {"value": {}},
                },
            }
        },
    }
}


_EXAMPLE_LINES = '{"name": "a", "kind": "mail"}\n{"name": "b", "tasks": 5, "idempotency_key": "order-17"}\n'
_BATCH_BODY = {
    "requestBody": {
        "required": True,
        "description": "At most EBS_MAX_BATCH_OBJECTS objects in EBS_MAX_BATCH_BYTES bytes",
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}, "example": _EXAMPLE_LINES},
            "application/json": {
                "schema": {"type": "array", "items": reference_to(schemas.BatchItem)},
                "example": [{"name": "a", "kind": "mail"}, {}, {"tasks": 5, "idempotency_key": "order-17"}],
            },
        },
    }
}
_MAX_BYTES = "EBS_MAX_BATCH_BYTES"


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
    summary="Submit one object, or many copies of it",
)
async def create_object(
    request: Request,
    parts: Parts,
    count: Annotated[
        int | None, Query(ge=1, le=schemas.MAX_COUNT, description="Create this many objects, each with its own id")
    ] = None,
    _idempotency_key: IdempotencyKey = None,
) -> Response:
    """Return 202 when Kafka has stored the object, or all of them.

    Without a body the API generates an object, unless a project is set.
    """
    key = body.read_key(request)
    wanted = await body.read_payload(request, parts.settings.max_body_bytes)
    if count is not None:
        ids = await parts.submitter.submit_many(wanted, count, key)
        accepted = schemas.BulkAccepted(count, "accepted", ids, schemas.BulkLinks("/api/statistics"))
        return json_response(accepted, 202)
    object_id = await parts.submitter.submit(wanted, key)
    links = object_links(object_id)
    return json_response(schemas.ObjectAccepted(object_id, "CREATED", links), 202, {"Location": links.self})


@router.post("/batch/", status_code=207, include_in_schema=False)
@router.post(
    "/batch",
    status_code=207,
    response_model=schemas.BatchAnswer,
    responses=documented_problems(400, 413, 415, 429, 503),
    openapi_extra=_BATCH_BODY,
    summary="Submit a batch of objects",
)
async def create_batch(request: Request, parts: Parts, _idempotency_key: IdempotencyKey = None) -> Response:
    """Return a result for each object, in the order of the batch. An error of one object does not affect the others.

    For a JSON array the answer comes at the end; for NDJSON it comes line by line while the API still reads the body.
    With an `Idempotency-Key` each object's id follows from the key and its position: the batch is safe to repeat.
    """
    settings = parts.settings
    batch = Batch(parts.submitter, body.read_key(request))
    body.check_type(request, (*body.JSON_TYPES, *NDJSON_TYPES))
    if body.media_type_of(request) not in NDJSON_TYPES:
        return await _take_array(request, batch, settings)
    body.check_announced(request, settings.max_batch_bytes, _MAX_BYTES)
    results = results_of(request, batch, settings)
    first: list[schemas.BatchItemResult] = await anext(results, [])
    problem = whole_problem(first)
    if problem is None:
        return NdjsonResponse(first, results, batch)
    await results.aclose()
    await drain(request, settings.max_batch_bytes)
    raise problem


async def _take_array(request: Request, batch: Batch, settings: Settings) -> Response:
    most = settings.max_batch_objects
    count = ArrayCount()

    def check(chunk: bytes) -> None:
        if not count.feed(chunk, most):
            detail = (
                f"the body has more than {most} objects, the most that one request may have (EBS_MAX_BATCH_OBJECTS)"
            )
            raise problems.Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)

    items = split_array(await body.read_bytes(request, settings.max_batch_bytes, _MAX_BYTES, check))
    results = []
    for start in range(0, len(items), CHUNK_COUNT):
        results += await batch.take(items[start : start + CHUNK_COUNT])
    problem = whole_problem(results)
    if problem is not None:
        raise problem
    return json_response(
        schemas.BatchAnswer(**msgspec.structs.asdict(batch.summary), items=results), HTTPStatus.MULTI_STATUS
    )
