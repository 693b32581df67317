"""Errors as people and programs read them: `application/problem+json` (RFC 9457) for every answer of 400 and above.

A route raises `Problem`; what FastAPI and Starlette raise by themselves (unknown path, wrong method, bad parameter)
and what nobody expected is turned into the same shape here. `type` is a stable URN to branch on; `about:blank` means
that the status says it all.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.server.methods import allowed
from app.errors import BrokerUnavailable, OutcomeUnknown, RecordRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastapi import FastAPI
    from starlette.requests import Request

    from app.errors import BrokerError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2

_ABOUT_BLANK = "about:blank"
_URN = "urn:ebs:problem:"
_Place = TypeVar("_Place")


class Problem(Exception):
    """An error answer: `name` ends the URN, `members` are extension members, such as `errors` or `ids`."""

    def __init__(
        self,
        status: HTTPStatus,
        name: str,
        detail: str,
        *,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.members = dict(members or {})
        self.headers = dict(headers or {})


def type_of(name: str) -> str:
    """Return a problem's `type`."""
    return _URN + name if name else _ABOUT_BLANK


def not_found(detail: str) -> Problem:
    """Return the answer to a question about something that does not exist."""
    return Problem(HTTPStatus.NOT_FOUND, "not-found", detail)


def conflict(name: str, detail: str, members: Mapping[str, Any] | None = None) -> Problem:
    """Return the answer to a request that the state of things does not allow."""
    return Problem(HTTPStatus.CONFLICT, name, detail, members=members)


def too_many(name: str, detail: str, members: Mapping[str, Any] | None = None) -> Problem:
    """Return a 429 that says when to come back."""
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, name, detail, members=members, headers=headers)


def unavailable(name: str, detail: str, members: Mapping[str, Any] | None = None) -> Problem:
    """Return a 503 that says when to come back."""
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, name, detail, members=members, headers=headers)


def not_written(error: BrokerError, what: str, members: Mapping[str, Any]) -> Problem:
    """Return the 503 of a change that the broker did not take, or may have taken; `what` names the change."""
    known = "; nothing has changed, and"
    if isinstance(error, OutcomeUnknown):
        known = f", so it is not known whether {what} is stored;"
    return unavailable(name_of(error), f"{error}{known} repeating is safe", members)


def name_of(error: BrokerError) -> str:
    """Return the name of the problem if a broker did not take a record, or may have taken it."""
    if isinstance(error, RecordRefused):
        return "record-refused"
    return "broker-unavailable" if isinstance(error, BrokerUnavailable) else "outcome-unknown"


def place_in(cursor: str | None, parse: Callable[[str], _Place | None]) -> _Place | None:
    """Return the place that the query's `cursor` names, None where it is left out. Raises `Problem` (422)."""
    place = None if cursor is None else parse(cursor)
    if cursor is not None and place is None:
        raise invalid([{"detail": "Input should be the next_cursor of an answer", "parameter": "cursor"}])
    return place


def invalid(errors: Sequence[Mapping[str, str]]) -> Problem:
    """Return a 422; each error has `detail` and either `pointer` (JSON Pointer into the body) or `parameter`."""
    first = errors[0]
    where = first.get("pointer") or first.get("parameter") or "the request"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", f"{where}: {first['detail']}{more}", members={"errors": errors}
    )


def errors_of(raw_errors: Sequence[Any], known: Sequence[str] = ()) -> list[dict[str, str]]:
    """Turn pydantic's error list into the `errors` of a problem; `known` are the fields that there are."""
    return [_error_of(raw, known) for raw in raw_errors]


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them: a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def install(app: FastAPI) -> None:
    """Make every error that leaves the application a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_unexpected)


def _error_of(raw: Mapping[str, Any], known: Sequence[str]) -> dict[str, str]:
    location = [str(part) for part in raw["loc"]]
    detail = str(raw["msg"]).removeprefix("Value error, ")
    if raw["type"] == "extra_forbidden":
        detail = f"Unknown field; known are {listed(known)}"
    if location and location[0] in {"query", "path", "header"}:
        return {"detail": detail, "parameter": ".".join(location[1:])}
    return {"detail": detail, "pointer": "#" + "".join(f"/{part}" for part in location)}


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # Starlette types handlers for Exception
    return answer(request, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # Starlette types handlers for Exception
    status = HTTPStatus(error.status_code)
    detail = error.detail
    if status is HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {request.url.path}; /docs lists all routes"
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        # The error names those of one route; others may have the same path.
        taken = allowed(request.app.routes, request.scope) or (error.headers or {}).get("Allow", "")
        detail = f"{request.url.path} does not take {request.method}, only {taken}"
        return answer(request, Problem(status, "", detail, headers={"Allow": taken}))
    return answer(request, Problem(status, "", detail, headers=error.headers))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # Starlette types handlers for Exception
    return answer(request, invalid(errors_of(error.errors())))


async def _on_unexpected(request: Request, _error: Exception) -> Response:
    # The server logs the traceback; the answer shows none of it.
    detail = "unexpected error in this process; see its log"
    return answer(request, Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "", detail))


def answer(request: Request, problem: Problem) -> Response:
    """Return the problem document."""
    document = {
        "type": type_of(problem.name),
        "title": problem.status.phrase,
        "status": problem.status.value,
        "detail": problem.detail,
        "instance": request.url.path,
        **problem.members,
    }
    return Response(
        msgspec.json.encode(document), status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE
    )
