"""Which fields of a JSON object do not fit a struct: all of them, for an answer that names each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from api.server import problems

if TYPE_CHECKING:
    from collections.abc import Iterator


def wrong_fields(
    data: bytes | msgspec.Raw, struct: type[msgspec.Struct], caught: tuple[type[Exception], ...]
) -> Iterator[tuple[str, object]]:
    """Yield of each field that is wrong its JSON Pointer and why: msgspec itself stops at the first one.

    `caught` are the errors that are a field's; others are raised.
    """
    try:
        values = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except caught:
        return  # not an object
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name, value in values.items():
        if name not in fields:
            yield _pointer_to(name), f"Unknown field; known are {problems.listed(list(fields))}"
            continue
        try:
            msgspec.json.decode(value, type=fields[name].type)
        except caught as error:
            yield _pointer_to(name), error
    for name, field in fields.items():
        if field.required and name not in values:
            yield _pointer_to(name), "Field required"


def _pointer_to(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")
