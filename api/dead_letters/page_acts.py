"""Redrive and discard dead letters: one, edited or as it is, or all that a filter means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from api.dashboard.forms import Act, Done, Form, filled, number_in
from api.dashboard.inside import Refused, path_of
from api.dead_letters import page as dead_letters

if TYPE_CHECKING:
    from api.dashboard.site import Asked

_UNPROCESSABLE = 422


async def _redrive(asked: Asked, form: Form) -> Done:
    letter_id = asked.path["letter_id"]
    body: dict[str, Any] = {}
    if "payload" in form:
        body["payload"] = _json(form["payload"])
    answer = await asked.inside.call("POST", path_of("dead-letters", letter_id, "redrive"), body=body)
    what = f"task {answer['task_id']}" if answer["task_id"] else "the record"
    return Done(_page_of(letter_id), f"Redriven: {what} gets a new first attempt.")


async def _discard(asked: Asked, form: Form) -> Done:
    letter_id = asked.path["letter_id"]
    await asked.inside.call("DELETE", path_of("dead-letters", letter_id), body=filled(form, "reason"))
    return Done(_page_of(letter_id), "Discarded. Its bytes stay on the topic.")


async def _redrive_many(asked: Asked, form: Form) -> Done:
    wanted: dict[str, Any] = filled(form, "fingerprint", "kind", "error", "topic")
    if form.get("all"):
        wanted["all"] = True
    rate = number_in(form, "rate_per_s")
    if rate is not None:
        wanted["rate_per_s"] = rate
    await asked.inside.call("POST", "/api/dead-letters/redrive", body=wanted)
    return Done("/dead-letters", "The redrive has begun; its progress is below.")


async def _end_run(asked: Asked, _form: Form) -> Done:
    await asked.inside.call("DELETE", path_of("dead-letters", "redrives", asked.path["run_id"]))
    return Done("/dead-letters", "The redrive ends after what it writes now.")


def _page_of(letter_id: str) -> str:
    return path_of("dead-letters", letter_id).removeprefix("/api")


def _json(text: str) -> msgspec.Raw:
    """Return what was typed as JSON. Raises `Refused`, as the API does for what is none."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        detail = f"The payload is not JSON: {error}"
        raise Refused(_UNPROCESSABLE, {"title": "Not JSON", "status": _UNPROCESSABLE, "detail": detail}) from None
    return msgspec.Raw(text.encode())


ACTS = (
    Act("/dead-letters/redrive", dead_letters.PAGE, _redrive_many),
    Act("/dead-letters/redrives/{run_id}/cancel", dead_letters.PAGE, _end_run),
    Act("/dead-letters/{letter_id}/redrive", dead_letters.LETTER_PAGE, _redrive),
    Act("/dead-letters/{letter_id}/discard", dead_letters.LETTER_PAGE, _discard),
)
