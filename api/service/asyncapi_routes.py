"""What lies on the topics: the AsyncAPI document, and the same for people."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse

from api.dashboard.drawing import draw
from api.dashboard.site import PAGE_HEADERS
from api.dependencies import Parts, json_response
from api.service.asyncapi.document import describe
from api.service.asyncapi.fields import fields_of

router = APIRouter(tags=["documentation"])


@router.get(
    "/asyncapi.json",
    response_model=dict[str, Any],
    summary="Get the AsyncAPI 3.0 document of the topics",
)
async def read_document(request: Request, parts: Parts) -> Response:
    """Return channels, messages, keys, headers and examples of this system's topics."""
    return json_response(describe(parts.settings, request.app.version))


@router.get("/asyncapi", include_in_schema=False)
async def show_document(request: Request, parts: Parts) -> Response:
    """Answer with a page; nothing of it comes from elsewhere."""
    document = describe(parts.settings, request.app.version)
    schemas = document["components"]["schemas"]
    messages = {
        name: {
            **message,
            "fields": fields_of(schemas.get(message["payload"].get("$ref", "").rpartition("/")[2], {})),
            "header_names": list(message.get("headers", {}).get("properties", {})),
            "example": json.dumps(message["examples"][0]["payload"], indent=2) if "examples" in message else "",
        }
        for name, message in document["components"]["messages"].items()
    }
    nested = {
        name: fields_of(schema)
        for name, schema in schemas.items()
        if name not in {message["payload"].get("$ref", "").rpartition("/")[2] for message in messages.values()}
    }
    context = {
        "page": None,
        "trouble": None,
        "said": "",
        "refused": None,
        "document": document,
        "messages": messages,
        "nested": nested,
        "writers": _roles(document, "send"),
        "readers": _roles(document, "receive"),
    }
    return HTMLResponse(draw("asyncapi.html", context), headers=PAGE_HEADERS)


def _roles(document: dict[str, Any], action: str) -> dict[str, str]:
    roles: dict[str, list[str]] = {name: [] for name in document["channels"]}
    for operation in document["operations"].values():
        if operation["action"] == action:
            roles[operation["channel"]["$ref"].rpartition("/")[2]].append(operation["tags"][0]["name"])
    return {name: ", ".join(found) for name, found in roles.items()}
