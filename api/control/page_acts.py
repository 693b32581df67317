"""Pause and resume, limit, drain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.control import page as control
from api.control import workers_page as workers
from api.dashboard.forms import Act, Done, Form, filled, number_in
from api.dashboard.inside import path_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.dashboard.site import Asked


async def _pause(asked: Asked, form: Form) -> Done:
    answer = await asked.inside.call("POST", "/api/control/pause", body=filled(form, "kind", "reason"))
    return _done("/control", f"Paused: no task{_of_kind(form)} starts any more; running ones finish.", answer)


async def _resume(asked: Asked, form: Form) -> Done:
    answer = await asked.inside.call("POST", "/api/control/resume", body=filled(form, "kind"))
    return _done("/control", f"Resumed: tasks{_of_kind(form)} start again.", answer)


async def _limit_rate(asked: Asked, form: Form) -> Done:
    kind = form.get("kind", "")
    answer = await asked.inside.call("PUT", path_of("control", "rate", kind), body={"per_s": number_in(form, "per_s")})
    return _done("/control", f"At most {form.get('per_s', '')} tasks of kind {kind} start a second.", answer)


async def _lift_rate(asked: Asked, form: Form) -> Done:
    kind = form.get("kind", "")
    answer = await asked.inside.call("DELETE", path_of("control", "rate", kind))
    return _done("/control", f"The limit of kind {kind} is lifted.", answer)


async def _set_concurrency(asked: Asked, form: Form) -> Done:
    body = {**filled(form, "worker"), "count": number_in(form, "count")}
    answer = await asked.inside.call("PUT", "/api/control/concurrency", body=body)
    return _done("/control", f"Each worker works on at most {form.get('count', '')} tasks at once.", answer)


async def _reset_concurrency(asked: Asked, form: Form) -> Done:
    answer = await asked.inside.call("DELETE", "/api/control/concurrency", filled(form, "worker"))
    return _done("/control", "Each worker works on as many tasks at once as it is set to.", answer)


async def _drain(asked: Asked, _form: Form) -> Done:
    worker = asked.path["worker"]
    answer = await asked.inside.call("POST", path_of("control", "drain", worker))
    return _done("/workers", f"{worker} starts nothing any more; what it works on finishes.", answer)


async def _end_drain(asked: Asked, _form: Form) -> Done:
    worker = asked.path["worker"]
    answer = await asked.inside.call("DELETE", path_of("control", "drain", worker))
    return _done("/workers", f"{worker} works again.", answer)


def _done(path: str, said: str, answer: Mapping[str, Any]) -> Done:
    """Say what was done, and what is odd about it."""
    return Done(path, " ".join([said, *(f"Warning: {warning}." for warning in answer["warnings"])]))


def _of_kind(form: Form) -> str:
    return f" of kind {form['kind']}" if form.get("kind") else ""


ACTS = (
    Act("/control/pause", control.PAGE, _pause),
    Act("/control/resume", control.PAGE, _resume),
    Act("/control/rate", control.PAGE, _limit_rate),
    Act("/control/rate/lift", control.PAGE, _lift_rate),
    Act("/control/concurrency", control.PAGE, _set_concurrency),
    Act("/control/concurrency/reset", control.PAGE, _reset_concurrency),
    Act("/workers/{worker}/drain", workers.PAGE, _drain),
    Act("/workers/{worker}/drain/end", workers.PAGE, _end_drain),
)
