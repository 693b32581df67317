"""Reads the body of a request without trusting its headers.

FastAPI would read a body of any length, and parse it before anybody asked of what type it is.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from api import problems, schemas

if TYPE_CHECKING:
    from starlette.requests import Request

Model = TypeVar("Model", bound=BaseModel)

_JSON_ERRORS = frozenset({"json_invalid"})


async def read_object_request(request: Request, max_body_bytes: int) -> schemas.ObjectRequest:
    """Return the checked body; one without any field set if there is none. Raises `Problem` (400, 413, 415, 422)."""
    return await read_body(request, max_body_bytes, schemas.ObjectRequest)


async def read_body(request: Request, max_body_bytes: int, model: type[Model]) -> Model:
    """Return the body as a model; no body is one without any field. Raises `Problem` (400, 413, 415, 422)."""
    body = await read_json(request, max_body_bytes)
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raw_errors = error.errors(include_url=False, include_input=False)
        if raw_errors[0]["type"] in _JSON_ERRORS:
            raise malformed(raw_errors[0]["msg"].removeprefix("Invalid JSON: ")) from None
        raise problems.invalid(problems.errors_of(raw_errors, tuple(model.model_fields))) from None


async def read_json(request: Request, max_body_bytes: int) -> bytes:
    """Return the bytes of a body that says it is JSON, none if there is none. Raises `Problem` (400, 413, 415)."""
    body = await _read(request, max_body_bytes)
    if body:
        _check_type(request)
    return body


def malformed(reason: str) -> problems.Problem:
    """Return the answer to a body that is not JSON."""
    return problems.Problem(HTTPStatus.BAD_REQUEST, "malformed-json", f"the body is not JSON: {reason}")


async def _read(request: Request, max_body_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_body_bytes:
        raise _too_large(max_body_bytes)
    chunks = []
    size_bytes = 0
    try:
        # A Content-Length may be absent (chunked), or a lie: what comes in is what counts.
        async for chunk in request.stream():
            size_bytes += len(chunk)
            if size_bytes > max_body_bytes:
                raise _too_large(max_body_bytes)
            chunks.append(chunk)
    except ClientDisconnect:
        # Nobody reads this answer; without it the server's log would show a traceback.
        raise problems.Problem(HTTPStatus.BAD_REQUEST, "incomplete-body", "the client left") from None
    return b"".join(chunks)


def _too_large(max_body_bytes: int) -> problems.Problem:
    detail = f"the body is over {max_body_bytes} bytes (EBS_MAX_BODY_BYTES)"
    return problems.Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)


def _check_type(request: Request) -> None:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.replace(" ", "").lower().removeprefix("charset=").strip('"')
    coding = request.headers.get("content-encoding", "identity")
    if media_type.strip().lower() != "application/json" or charset not in {"", "utf-8"} or coding != "identity":
        said = request.headers.get("content-type") or "nothing"
        detail = f"send the body as application/json in plain UTF-8 (it says {said}, coding {coding}), or send no body"
        headers = {"Accept-Post": "application/json"}
        raise problems.Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail, headers=headers)
