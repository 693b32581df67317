"""Forms: the API carries them out, and the answer is 303. A refused form is drawn again with what was typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from msgspec import DecodeError, Raw

from api.dashboard.inside import Refused
from api.dashboard.problems import problem_page
from api.dashboard.site import Asked, Page, asked_of, go_to, show
from api.server.problems import Problem
from api.submit.body import read_bytes
from app import json_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

_MAX_FIELDS = 50
_BAD_REQUEST = 400
_UNPROCESSABLE = 422

Form = dict[str, str]


class Done(NamedTuple):
    """Where to go after a form, and what is said there."""

    path: str
    said: str


class Act(NamedTuple):
    """A form: `page` is drawn again if it is refused, with what was typed."""

    path: str
    page: Page
    perform: Callable[[Asked, Form], Awaitable[Done]]


async def carry_out(request: Request, act: Act) -> Response:
    """Answer a form."""
    max_bytes = request.app.state.collaborators.settings.max_body_bytes
    try:
        form = parse_form(await read_bytes(request, max_bytes, "EBS_MAX_BODY_BYTES"))
    except Problem as error:
        return problem_page(request, error.status, {"detail": error.detail, "title": error.status.phrase})
    except ValueError as error:
        problem = {"title": "Bad Request", "detail": f"the form cannot be read: {error}"}
        return problem_page(request, _BAD_REQUEST, problem)
    try:
        done = await act.perform(asked_of(request), form)
    except Refused as error:
        extra = {"refused": error.problem, "typed": form}
        return await show(request, act.page, extra, error.status)
    return go_to(*done)


def parse_form(data: bytes) -> Form:
    """Return the fields of a form, the last one of each name. Raises `ValueError`."""
    pairs = parse_qsl(data.decode(), keep_blank_values=True, strict_parsing=False, max_num_fields=_MAX_FIELDS)
    # Browsers send line ends of a text as CR LF, whatever was typed or was there.
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


def filled(form: Mapping[str, str], *names: str) -> dict[str, Any]:
    """Return the fields that are not empty."""
    return {name: form[name] for name in names if form.get(name)}


def content_in(what: str, text: str, *, is_json: bool) -> str | Raw:
    """Return a text, or the JSON that it is. Raises `Refused`; `what` says whose content it is."""
    if not is_json:
        return text
    try:
        json_text.check(Raw(text.encode()))
    except DecodeError as error:
        raise refused(f"{what} is not JSON: {error}. Clear the box “is JSON” to send it as text") from None
    return Raw(text.encode())


def work_in(form: Mapping[str, str]) -> dict[str, Any]:
    """Return what a form says of an object's content and its tasks, as a body of the API has it. Raises `Refused`."""
    is_json = bool(form.get("json"))
    work: dict[str, Any] = {}
    if form.get("content"):
        work["content"] = content_in("The content", form["content"], is_json=is_json)
    tasks = number_in(form, "tasks")
    lines = [line for line in form.get("items", "").split("\n") if line.strip()]
    if lines and tasks is not None:
        raise refused("Give a number of tasks, or items: each item is a task")
    if lines:
        items = (content_in(f"Item {number}", line, is_json=is_json) for number, line in enumerate(lines, 1))
        work["tasks"] = [{"content": item} for item in items]
    elif tasks is not None:
        work["tasks"] = tasks
    return work


def refused(detail: str) -> Refused:
    """Return the refusal of a form, as the API would word it."""
    return Refused(_UNPROCESSABLE, {"title": "Unprocessable Content", "status": _UNPROCESSABLE, "detail": detail})


def number_in(form: Mapping[str, str], name: str) -> int | float | str | None:
    """Return a field as a number; as text where it is none, so that the API says what is wrong with it."""
    text = form.get(name, "").strip()
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None
