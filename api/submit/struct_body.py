"""Reads bodies as structs: msgspec checks them, and the answer to a wrong one names each field that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from api.server import problems
from api.submit.body import malformed, read_json
from api.submit.wrong_fields import wrong_fields
from app.events import DECODE_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from api.server.documented import RequestBody

AnyBody = TypeVar("AnyBody", bound="RequestBody")


async def read_struct(request: Request, max_body_bytes: int, struct: type[AnyBody]) -> AnyBody:
    """Return the body; without one, the struct's defaults. Raises `Problem` (400, 413, 415, 422)."""
    data = await read_json(request, max_body_bytes) or b"{}"
    try:
        return msgspec.json.decode(data, type=struct)
    except msgspec.ValidationError as error:
        raise _invalid(data, struct, error) from None
    except DECODE_ERRORS as error:
        raise malformed(str(error)) from None


def _invalid(data: bytes, struct: type[RequestBody], first: msgspec.ValidationError) -> Exception:
    """Return the answer to a body that does not fit: msgspec names its first error only."""
    try:
        return problems.invalid(list(_errors(data, struct)) or [_error("", first)])
    except DECODE_ERRORS as error:  # behind the first error it is no JSON, or too deep
        return malformed(str(error))


def _errors(data: bytes, struct: type[RequestBody]) -> Iterator[dict[str, str]]:
    for pointer, detail in wrong_fields(data, struct, (msgspec.ValidationError,)):
        yield _error(pointer, detail)


def _error(pointer: str, detail: object) -> dict[str, str]:
    return {"detail": str(detail).replace(r"\\Z", "$"), "pointer": f"#{pointer}"}
