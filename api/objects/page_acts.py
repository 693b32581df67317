"""Submit objects, cancel one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from api.dashboard.forms import Act, Done, Form, filled, number_in
from api.dashboard.inside import Refused, path_of
from api.objects import object_page as one_object
from api.objects import submit_page as submit
from api.server.paths import OBJECT_ID
from app import json_text

if TYPE_CHECKING:
    from api.dashboard.site import Asked

_UNPROCESSABLE = 422


async def _submit(asked: Asked, form: Form) -> Done:
    wanted: dict[str, Any] = filled(form, "name", "kind", "id", "callback_url", "due_at", "key")
    delay_s = number_in(form, "delay_s")
    if delay_s is not None:
        wanted["delay_s"] = delay_s
    is_json = bool(form.get("json"))
    if form.get("content"):
        wanted["content"] = _content("The content", form["content"], is_json=is_json)
    tasks = number_in(form, "tasks")
    lines = [line for line in form.get("items", "").split("\n") if line.strip()]
    if lines and tasks is not None:
        raise _refused("Give a number of tasks, or items: each item is a task")
    if lines:
        wanted["tasks"] = [
            {"content": _content(f"Item {number}", line, is_json=is_json)} for number, line in enumerate(lines, 1)
        ]
    elif tasks is not None:
        wanted["tasks"] = tasks
    count = form.get("count", "").strip()
    if count in {"", "1"}:
        answer = await asked.inside.call("POST", "/api/objects", body=wanted)
        return Done(path_of("objects", answer["id"]).removeprefix("/api"), "The object is accepted.")
    answer = await asked.inside.call("POST", "/api/objects", {"count": count}, wanted)
    return Done("/objects", f"{answer['count']:,} objects are accepted.")


def _content(what: str, text: str, *, is_json: bool) -> str | Raw:
    """Return a text, or the JSON that it is. Raises `Refused`."""
    if not is_json:
        return text
    try:
        json_text.check(Raw(text.encode()))
    except msgspec.DecodeError as error:
        raise _refused(f"{what} is not JSON: {error}. Clear the box “is JSON” to send it as text") from None
    return Raw(text.encode())


def _refused(detail: str) -> Refused:
    return Refused(_UNPROCESSABLE, {"title": "Unprocessable Content", "status": _UNPROCESSABLE, "detail": detail})


async def _cancel(asked: Asked, form: Form) -> Done:
    object_id = asked.path["object_id"]
    await asked.inside.call("DELETE", path_of("objects", object_id), {"reason": form.get("reason", "")})
    return Done(path_of("objects", object_id).removeprefix("/api"), "The object's tasks are being cancelled.")


ACTS = (Act("/objects", submit.PAGE, _submit), Act(f"/objects/{OBJECT_ID}/cancel", one_object.PAGE, _cancel))
