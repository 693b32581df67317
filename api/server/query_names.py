"""Refuses query parameters that a route does not have: without that, a misspelt filter would match everything.

Installed once for all routers (`api.main`): a route only declares its parameters, one by one or as a model. Pages for
browsers ignore what they do not know, as other sites add parameters to links.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Depends
from pydantic import BaseModel
from starlette.requests import Request  # noqa: TC002  # FastAPI reads annotations when it runs

from api.server import problems
from app.telemetry.near_names import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAX_TOLD = 10


async def _refuse(request: Request) -> None:
    if request.scope["query_string"]:
        refuse_unknown(request, list(dict.fromkeys(_declared(request.scope["route"].dependant))))


KNOWN_ONLY = Depends(_refuse)


def refuse_unknown(request: Request, known: Sequence[str] = ()) -> None:
    """Raise `Problem` (422) for a query with a name that is not among the known ones."""
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        raise problems.invalid([{"detail": _words(name, known), "parameter": name} for name in unknown[:_MAX_TOLD]])


def _declared(dependant: Any) -> Iterator[str]:
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from (one.alias or name for name, one in annotation.model_fields.items())
        else:
            yield field.alias
    for dependency in dependant.dependencies:
        yield from _declared(dependency)


def _words(name: str, known: Sequence[str]) -> str:
    if not known:
        return "Unknown parameter; this path takes none"
    return f"Unknown parameter; known are {problems.listed(known)}{did_you_mean(name, known)}"
