"""Decodes bodies as structs: msgspec checks them, and the answer to a wrong body names each field that is wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec
import pydantic_core

from api.server import problems
from app import json_text
from app.events import DECODE_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.server.documented import RequestBody

AnyBody = TypeVar("AnyBody", bound="RequestBody")

_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`\Z")
_STEP = re.compile(r"\[(\d+)\]|\.([^.\[]+)")


class NotJson(ValueError):
    """A text is not JSON; the message says at which line and column it stops being JSON."""


class WrongFields(ValueError):
    """A body has wrong fields: `errors` as in a problem document."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__(errors)
        self.errors = errors


def decode_struct(data: bytes | msgspec.Raw, struct: type[AnyBody]) -> AnyBody:
    """Return a JSON text as a struct. Raises `NotJson`, `WrongFields` with all wrong fields."""
    try:
        decoded = _decode(data, struct)
        bytes(data).decode()  # in a field of raw JSON msgspec looks at the brackets only
    except RecursionError:
        raise WrongFields([error_at("", f"it is nested deeper than {json_text.MAX_LEVELS} levels")]) from None
    except DECODE_ERRORS as error:
        raise NotJson(_why_not_json(bytes(data), error)) from None
    return decoded


def error_at(pointer: str, error: object) -> dict[str, str]:
    """Return an error of a problem document. Where in a value it is, msgspec says as a path: `$[3].content`."""
    detail = str(error).replace(r"\\Z", "$")
    place = _PLACE.search(detail)
    if place is not None:
        pointer += "".join(f"/{index or name}" for index, name in _STEP.findall(place["path"]))
        detail = detail[: place.start()]
    return {"detail": detail, "pointer": f"#{pointer}"}


def _decode(data: bytes | msgspec.Raw, struct: type[AnyBody]) -> AnyBody:
    try:
        return msgspec.json.decode(data, type=struct)
    except msgspec.ValidationError as error:
        # msgspec names the first wrong field only.
        raise WrongFields(list(_wrong_fields(data, struct)) or [error_at("", error)]) from None


def _wrong_fields(data: bytes | msgspec.Raw, struct: type[RequestBody]) -> Iterator[dict[str, str]]:
    """Yield an error for each field that is wrong; none if the text is not a JSON object."""
    try:
        values = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name, value in values.items():
        if name not in fields:
            yield error_at(_pointer_to(name), f"Unknown field; known are {problems.listed(list(fields))}")
            continue
        try:
            msgspec.json.decode(value, type=fields[name].type)
        except msgspec.ValidationError as error:
            yield _with_hint(error_at(_pointer_to(name), error), name, struct)
    for name, field in fields.items():
        if field.required and name not in values:
            yield error_at(_pointer_to(name), "Field required")


def _with_hint(error: dict[str, str], name: str, struct: type[RequestBody]) -> dict[str, str]:
    """Return an error with what it takes, if it is about a value inside of a field for which the struct says that."""
    hint = struct.hints.get(name)
    is_inside = error["pointer"] != f"#{_pointer_to(name)}"
    return error | {"detail": f"{error['detail']}: {hint}"} if hint and is_inside else error


def _pointer_to(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _why_not_json(data: bytes, error: Exception) -> str:
    """Return why a text is not JSON; pydantic's reader says line and column."""
    try:
        pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as said:
        return str(said)
    return str(error)
