"""Gives every answer of the OpenAPI document an example, made from its schema where its route has none.

So none is missing, and none is of another shape than its schema (a test validates them all).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from api.server.problems import MEDIA_TYPE, type_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Schema = Mapping[str, Any]

_ID = "8f3bbd0a5e6c4b1f9d2a7c40e1b5f6a3"
_AT_MS = 1_795_489_276_303
_TEXTS = {
    "id": _ID,
    "object_id": _ID,
    "task_id": f"{_ID}-0",
    "ids": _ID,
    "name": "report",
    "content": "of the day",
    "kind": "mail",
    "worker": "processing-1",
    "host": "worker-a",
    "version": "0.1.0",
    "topic": "task-requests",
    "fingerprint": "5f0c2a9be417",
    "self": f"/api/objects/{_ID}",
    "tasks": f"/api/objects/{_ID}/tasks",
    "statistics": "/api/statistics",
    "type": "urn:ebs:problem:invalid",
    "by": "ann",
    "reason": "sent by mistake",
}
_NUMBERS = {"status": 202, "imbalance": 0, "count": 1, "index": 0}
_NAMES_OF_PROBLEM = {400: "malformed-json", 404: "not-found", 409: "conflict", 413: "too-large", 422: "invalid"}
_NAMES_OF_PROBLEM |= {415: "unsupported-media-type", 429: "broker-behind", 503: "broker-unavailable"}
_STREAMS = {
    "text/event-stream": 'id: task-events:3:1234\nevent: TASK_STARTED\ndata: {"type":"TASK_STARTED"}\n\n',
    "text/plain": "# TYPE ebs_objects_created counter\nebs_objects_created_total 17.0\n",
}
_MAX_DEPTH = 12


def add_examples(document: dict[str, Any]) -> None:
    """Add an example to each body and answer that has none, and to each error one of its problem document."""
    schemas = document["components"]["schemas"]
    for body in _bodies(document):
        if "example" not in body and "examples" not in body:
            body["example"] = example_of(body["schema"], schemas)
    for path, status, response in _responses(document):
        for media_type, content in response.get("content", {}).items():
            if "example" in content or "examples" in content:
                continue
            if media_type == MEDIA_TYPE:
                content["example"] = _problem(path, int(status), response["description"])
            elif media_type in _STREAMS:
                content["example"] = _STREAMS[media_type]
            else:
                content["example"] = example_of(content.get("schema", {}), schemas)


def example_of(schema: Schema, schemas: Schema, name: str = "", depth: int = 0) -> Any:
    """Return a value that a JSON schema takes; `name` is the field's, which says more than its type."""
    if depth > _MAX_DEPTH:
        return None
    told = [*schema.get("examples", ()), *([schema["const"]] if "const" in schema else ()), *schema.get("enum", ())]
    if told:
        return told[0]
    among = next((schema[word] for word in ("anyOf", "oneOf", "allOf") if word in schema), None)
    if "$ref" in schema:
        among = [_meant(schema["$ref"], schemas)]
    if among is None:
        return _plain(schema, schemas, name, depth)
    # What may be null is told best by what it is when it is not.
    return example_of(next(one for one in among if one.get("type") != "null"), schemas, name, depth + 1)


def _plain(schema: Schema, schemas: Schema, name: str, depth: int) -> Any:
    kind = schema.get("type", "object")
    if kind == "array":
        return [example_of(schema.get("items", {}), schemas, name, depth + 1)]
    if kind == "string":
        return _TEXTS.get(name, name.replace("_", " ") or "text")
    if kind in {"integer", "number"}:
        return _number(schema, name)
    if kind == "boolean":
        return True
    properties, more = schema.get("properties", {}), schema.get("additionalProperties")
    if not properties and isinstance(more, dict):
        key = example_of(schema.get("propertyNames", {"const": "mail"}), schemas, name, depth + 1)
        return {key: example_of(more, schemas, name, depth + 1)}
    return {field: example_of(one, schemas, field, depth + 1) for field, one in properties.items()}


def _meant(reference: str, schemas: Schema) -> Schema:
    found: Schema = schemas[reference.rpartition("/")[2]]
    return found


def _number(schema: Schema, name: str) -> int:
    wanted = _AT_MS if name.endswith("at_ms") else _NUMBERS.get(name, 12 if name.endswith("_ms") else 3)
    return int(min(max(wanted, schema.get("minimum", wanted)), schema.get("maximum", wanted)))


def _problem(path: str, status: int, detail: str) -> dict[str, Any]:
    name = _NAMES_OF_PROBLEM.get(status, "")
    return {
        "type": type_of(name),
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": path.replace("{object_id}", _ID),
    }


def _responses(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                yield path, status, response


def _bodies(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        for operation in operations.values():
            yield from operation.get("requestBody", {}).get("content", {}).values()
