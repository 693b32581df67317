"""Reads bodies as structs: msgspec checks them, and the answer to a wrong one names each field that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from api.server import problems
from api.submit.body import malformed, read_json
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
        # msgspec names the first error only.
        raise problems.invalid(list(_errors(data, struct)) or [_error("", error)]) from None
    except DECODE_ERRORS as error:
        raise malformed(str(error)) from None


def _errors(data: bytes, struct: type[RequestBody]) -> Iterator[dict[str, str]]:
    try:
        values = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return  # not an object
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name, value in values.items():
        if name not in fields:
            yield _error(name, f"Unknown field; known are {problems.listed(list(fields))}")
            continue
        try:
            msgspec.json.decode(value, type=fields[name].type)
        except msgspec.ValidationError as error:
            yield _error(name, error)
    yield from (
        _error(name, "Field required") for name, field in fields.items() if field.required and name not in values
    )


def _error(name: str, detail: object) -> dict[str, str]:
    pointer = "/" + name.replace("~", "~0").replace("/", "~1") if name else ""
    return {"detail": str(detail).replace(r"\\Z", "$"), "pointer": f"#{pointer}"}
