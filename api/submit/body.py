"""Reads the body of a request without trusting its headers.

FastAPI would read a body of any length, and parse it before anybody asked of what type it is.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from api.server import problems
from api.submit.body_room import held_body
from api.submit.decoding import AnyBody, NotJson, WrongFields, decode_struct
from api.submit.payload import decode_payload
from api.submit.schemas import ObjectRequest
from app.rules.idempotency import BadKey, parse_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

JSON_TYPES = ("application/json",)
_MAX_DIGITS = 18


async def read_payload(request: Request, max_body_bytes: int) -> ObjectRequest:
    """Return the object that the body asks for, any if there is none. Raises `Problem` (400, 413, 415, 422)."""
    return await read_struct(request, max_body_bytes, ObjectRequest, decode_payload)


async def read_struct(
    request: Request,
    max_body_bytes: int,
    struct: type[AnyBody],
    decode: Callable[[bytes, type[AnyBody]], AnyBody] = decode_struct,
) -> AnyBody:
    """Return the body; without one, the struct's defaults. Raises `Problem` (400, 413, 415, 422)."""
    data = await read_json(request, max_body_bytes)
    try:
        return decode(data or b"{}", struct)
    except NotJson as error:
        detail = f"the body is not JSON: {error}"
        raise problems.Problem(HTTPStatus.BAD_REQUEST, "malformed-json", detail) from None
    except WrongFields as error:
        raise problems.invalid(error.errors) from None


def read_key(request: Request) -> str | None:
    """Return the request's idempotency key, if it has one. Raises `Problem` (400)."""
    try:
        return parse_key(request.headers.getlist("idempotency-key"))
    except BadKey as error:
        raise problems.Problem(HTTPStatus.BAD_REQUEST, "bad-idempotency-key", str(error)) from None


async def read_json(request: Request, max_body_bytes: int) -> bytes:
    """Return the bytes of a body that says it is JSON, none if there is none. Raises `Problem` (400, 413, 415)."""
    body = await read_bytes(request, max_body_bytes, "EBS_MAX_BODY_BYTES")
    if body:
        check_type(request, JSON_TYPES)
    return body


def media_type_of(request: Request) -> str:
    """Return the type that the body says it has, in lower case and without parameters; empty if it says none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_type(request: Request, taken: Sequence[str]) -> None:
    """Raise `Problem` (415) for a body that does not say that it is of one of these types, plain and in UTF-8."""
    parameters = request.headers.get("content-type", "").partition(";")[2]
    charset = parameters.replace(" ", "").lower().removeprefix("charset=").strip('"')
    coding = request.headers.get("content-encoding", "identity")
    if media_type_of(request) not in taken or charset not in {"", "utf-8"} or coding != "identity":
        said = request.headers.get("content-type") or "nothing"
        detail = f"send the body as {' or '.join(taken)} in plain UTF-8 (it says {said}, coding {coding})"
        if taken == JSON_TYPES:
            detail += ", or send no body"
        headers = {"Accept-Post": ", ".join(taken)}
        raise problems.Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail, headers=headers)


def check_announced(request: Request, max_bytes: int, setting: str) -> None:
    """Raise `Problem` (413) where the client says itself that its body is over the limit of this setting."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > _MAX_DIGITS or int(announced) > max_bytes):
        raise too_large(max_bytes, setting)


async def read_bytes(
    request: Request, max_bytes: int, setting: str, check: Callable[[bytes], None] = lambda _chunk: None
) -> bytes:
    """Return the whole body. Raises `Problem` (413, 400 if the client leaves, 503 if there is no room for more).

    `check` sees each piece as it comes in, and may raise a `Problem` as well.
    """
    check_announced(request, max_bytes, setting)
    held = held_body(request)
    chunks = []
    size_bytes = 0
    try:
        # A Content-Length may be absent (chunked), or a lie: what comes in is what counts.
        async for chunk in request.stream():
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                raise too_large(max_bytes, setting)
            held.resize(size_bytes)
            check(chunk)
            chunks.append(chunk)
    except ClientDisconnect:
        # Nobody reads this answer; without it the server's log would show a traceback.
        raise problems.Problem(HTTPStatus.BAD_REQUEST, "incomplete-body", "the client left") from None
    return b"".join(chunks)


def too_large(max_bytes: int, setting: str) -> problems.Problem:
    """Return the answer to a body over the limit of a setting."""
    return problems.Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"the body is over {max_bytes} bytes ({setting})"
    )
