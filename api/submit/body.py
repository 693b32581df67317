"""Reads the body of a submit without trusting its headers.

FastAPI would read a body of any length, and parse it before anybody asked of what type it is.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from api import problems, schemas

if TYPE_CHECKING:
    from starlette.requests import Request

_JSON_ERRORS = frozenset({"json_invalid"})


async def read_object_request(request: Request, max_body_bytes: int) -> schemas.ObjectRequest:
    """Return the checked body; one without any field set if there is none. Raises `Problem` (400, 413, 415, 422)."""
    body = await _read(request, max_body_bytes)
    if not body:
        return schemas.NOTHING_ASKED
    _check_type(request)
    try:
        return schemas.ObjectRequest.model_validate_json(body)
    except ValidationError as error:
        raw_errors = error.errors(include_url=False, include_input=False)
        if raw_errors[0]["type"] in _JSON_ERRORS:
            detail = f"the body is not JSON: {raw_errors[0]['msg'].removeprefix('Invalid JSON: ')}"
            raise problems.Problem(HTTPStatus.BAD_REQUEST, "malformed-json", detail) from None
        raise problems.invalid(problems.errors_of(raw_errors)) from None


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
