"""The OpenAPI document: FastAPI's, with the schemas that routes refer to by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from api.access.keys import keys_from
from api.dependencies import documented_problems
from api.server.documented import with_structs

if TYPE_CHECKING:
    from fastapi import FastAPI

_UNUSED = ("HTTPValidationError", "ValidationError")


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document, made at the first call."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description="Submit objects over HTTP, run their tasks on Kafka workers, count every result exactly once.",
            routes=app.routes,
        )
        schemas = document["components"]["schemas"]
        for name in _UNUSED:
            # FastAPI documents its own error body, which nobody ever gets here.
            schemas.pop(name, None)
        for operations in document["paths"].values():
            for operation in operations.values():
                _replace_validation_error(operation["responses"])
                _document_errors(operation, 422, 500)  # 422: a query parameter that the route does not have
        if keys_from(app.state.collaborators.settings):
            document["components"]["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer", "description": "One of EBS_API_KEYS_READ or _WRITE"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
            document["security"] = [{"bearer": []}, {"header": []}]
            for operations in document["paths"].values():
                for operation in operations.values():
                    _document_errors(operation, 401, 403, 429)
        app.openapi_schema = with_structs(document)
    return app.openapi_schema


def _replace_validation_error(responses: dict[str, Any]) -> None:
    content = responses.get("422", {}).get("content", {})
    if "application/json" in content:
        del responses["422"]


def _document_errors(operation: dict[str, Any], *statuses: int) -> None:
    """Document errors that any route may answer with, where the route itself says nothing of them."""
    for status, problem in documented_problems(*statuses).items():
        operation["responses"].setdefault(str(status), problem)
