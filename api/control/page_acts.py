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
    return _done("/control", f"Paused: no task{_of_kind(form)} starts any more; running tasks finish.", answer)


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
    return _done("/control", f"The limit of kind {kind} is removed.", answer)


async def _limit_kind(asked: Asked, form: Form) -> Done:
    kind = form.get("kind", "")
    body = {name: number_in(form, name) for name in ("concurrency", "per_key")}
    answer = await asked.inside.call("PUT", path_of("control", "limits", kind), body=body)
    return _done("/control", f"The limits of kind {kind} are set.", answer)


async def _lift_limits(asked: Asked, form: Form) -> Done:
    kind = form.get("kind", "")
    answer = await asked.inside.call("DELETE", path_of("control", "limits", kind))
    return _done("/control", f"Kind {kind} has the limits of the project.", answer)


async def _set_concurrency(asked: Asked, form: Form) -> Done:
    body = {**filled(form, "worker"), "count": number_in(form, "count")}
    answer = await asked.inside.call("PUT", "/api/control/concurrency", body=body)
    return _done("/control", f"Each worker works on at most {form.get('count', '')} tasks at once.", answer)


async def _reset_concurrency(asked: Asked, form: Form) -> Done:
    answer = await asked.inside.call("DELETE", "/api/control/concurrency", filled(form, "worker"))
    return _done("/control", "Each worker works on EBS_CONCURRENCY tasks at once again.", answer)


async def _drain(asked: Asked, _form: Form) -> Done:
    worker = asked.path["worker"]
    answer = await asked.inside.call("POST", path_of("control", "drain", worker))
    return _done("/workers", f"{worker} starts no more tasks; its running tasks finish.", answer)


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
    Act("/control/limits", control.PAGE, _limit_kind),
    Act("/control/limits/lift", control.PAGE, _lift_limits),
    Act("/control/concurrency", control.PAGE, _set_concurrency),
    Act("/control/concurrency/reset", control.PAGE, _reset_concurrency),
    Act("/workers/{worker}/drain", workers.PAGE, _drain),
    Act("/workers/{worker}/drain/end", workers.PAGE, _end_drain),
)
