"""The messages of the AsyncAPI document: their schemas from the structs, their examples from real records."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import msgspec

from api.server.documented import portable
from api.service.asyncapi.examples import LETTER_HEADERS, RECORDS, REQUEST, payload_of
from app.rules.dead_letters import ACT_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEMA_REF = "#/components/schemas/{name}"
LETTER_NAME = "DEAD_LETTER"
ACT_NAME = "DEAD_LETTER_ACT"
ROW_NAME = "TABLE_ROW"
HEARTBEAT_NAME = "HEARTBEAT"
_NAMES = {"Heartbeat": HEARTBEAT_NAME, "LetterAct": ACT_NAME}

Document = dict[str, Any]


def name_of(record_type: type[msgspec.Struct]) -> str:
    """Return a message's name: the `type` that its values say, where they say one."""
    tag = record_type.__struct_config__.tag
    return str(tag) if tag is not None else _NAMES[record_type.__name__]


def schemas() -> Document:
    """Return the schemas of all values by the structs' names."""
    described = [_describable(type(record)) for record in RECORDS]
    _, components = msgspec.json.schema_components(described, ref_template=_SCHEMA_REF)
    return {name: portable(schema) for name, schema in components.items()}


def messages() -> Document:
    """Return the messages by their names."""
    found = {name_of(type(record)): _message(type(record), payload_of(record)) for record in RECORDS}
    act = found[ACT_NAME]
    act["headers"] = _headers({ACT_HEADER: "redriven"})
    act["examples"][0]["headers"] = {ACT_HEADER: "redriven"}
    found[LETTER_NAME] = {
        "name": LETTER_NAME,
        "title": "A dead letter",
        "summary": "The bytes of the original record, unchanged. The headers say why it is dead and where it came from",
        "contentType": "application/octet-stream",
        "payload": {"description": "The bytes of the original record"},
        "headers": _headers(LETTER_HEADERS),
        "examples": [{"name": "a task that failed", "headers": LETTER_HEADERS, "payload": payload_of(REQUEST)}],
    }
    found[ROW_NAME] = {
        "name": ROW_NAME,
        "title": "A row of a table",
        "summary": "Internal format: it may change with any version. A tombstone removes the row",
        "contentType": "application/msgpack",
        "payload": {"description": "msgpack, or bytes of the table's own"},
    }
    return found


def _message(record_type: type[msgspec.Struct], example: Any) -> Document:
    text = inspect.getdoc(record_type) or ""
    summary, _, more = text.partition("\n")
    name = name_of(record_type)
    message: Document = {
        "name": name,
        "title": name,
        "summary": summary,
        "contentType": "application/json",
        "payload": {"$ref": _SCHEMA_REF.format(name=record_type.__name__)},
        "examples": [{"name": "of one object's life", "payload": example}],
    }
    return message | ({"description": " ".join(more.split())} if more.strip() else {})


def _headers(examples: dict[str, str]) -> Document:
    properties = {name: {"type": "string", "examples": [value]} for name, value in examples.items()}
    return {"type": "object", "properties": properties}


def _describable(record_type: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return a struct whose JSON schema can be made: a default of raw JSON is none that msgspec writes."""
    fields = msgspec.structs.fields(record_type)
    if all(field.type is not msgspec.Raw for field in fields):
        return record_type
    config = record_type.__struct_config__
    return msgspec.defstruct(
        record_type.__name__,
        list(_fields(fields)),
        tag_field=config.tag_field,
        tag=config.tag,
        kw_only=True,
        namespace={"__doc__": record_type.__doc__},
    )


def _fields(fields: tuple[msgspec.structs.FieldInfo, ...]) -> Iterator[Any]:
    for field in fields:
        if field.type is msgspec.Raw:
            yield field.encode_name, Any, None
        elif field.required:
            yield field.encode_name, field.type
        else:
            yield field.encode_name, field.type, field.default
