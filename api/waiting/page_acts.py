"""Start waiting tasks now, or cancel them: one, or all that match a filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from api.dashboard.forms import Act, Done, Form, filled
from api.waiting import page as waiting

if TYPE_CHECKING:
    from api.dashboard.site import Asked

_SHOWN = "shown_"
"""Prefix of the fields with the filter of the page, so that the answer shows the same tasks again."""


async def _start(asked: Asked, form: Form) -> Done:
    answer = await asked.inside.call("POST", "/api/waiting/start", body=_wanted(form))
    return _done(form, f"{_tasks(answer['tasks_count'])} started.", answer["warnings"])


async def _cancel(asked: Asked, form: Form) -> Done:
    if form.get("task_id"):
        answer = await asked.inside.call("POST", "/api/control/cancel", body=filled(form, "task_id"))
        return _done(form, "The task is being cancelled.", answer["warnings"])
    answer = await asked.inside.call("POST", "/api/waiting/cancel", body=_wanted(form))
    return _done(form, f"{_tasks(answer['tasks_count'])} being cancelled.", answer["warnings"])


def _wanted(form: Form) -> dict[str, Any]:
    wanted: dict[str, Any] = filled(form, "task_id", *waiting.CONDITIONS)
    if form.get("all"):
        wanted["all"] = True
    return wanted


def _tasks(count: int) -> str:
    return f"{count:,} waiting task{' is' if count == 1 else 's are'}"


def _done(form: Form, said: str, warnings: list[str]) -> Done:
    shown = {name: form[_SHOWN + name] for name in waiting.CONDITIONS if form.get(_SHOWN + name)}
    path = "/waiting" + ("?" + urlencode(shown) if shown else "")
    return Done(path, " ".join([said, *(f"Note: {warning}." for warning in warnings)]))


ACTS = (Act("/waiting/start", waiting.PAGE, _start), Act("/waiting/cancel", waiting.PAGE, _cancel))
