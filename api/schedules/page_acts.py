"""Set, pause, resume, run and delete schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.dashboard.forms import Act, Done, Form, filled, number_in, work_in
from api.dashboard.inside import path_of
from api.schedules.page import PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.dashboard.site import Asked

_TEXTS = ("cron", "time_zone", "start_at", "end_at", "kind", "object_name", "key", "missed")


async def _set(asked: Asked, form: Form) -> Done:
    name = form.get("name", "")
    body: dict[str, Any] = filled(form, *_TEXTS) | work_in(form)
    if form.get("every_s"):
        body["every_s"] = number_in(form, "every_s")
    answer = await asked.inside.call("PUT", path_of("schedules", name), body=body)
    found = answer["schedule"]
    following = found["next_instants"][0] if found["next_instants"] else "never"
    return _done(f"Schedule {name} is set. It fires: {found['in_words']}. Next: {following}.", answer)


async def _pause(asked: Asked, _form: Form) -> Done:
    name = asked.path["name"]
    answer = await asked.inside.call("POST", path_of("schedules", name, "pause"))
    return _done(f"Schedule {name} is paused: it does not fire until it is resumed.", answer)


async def _resume(asked: Asked, _form: Form) -> Done:
    name = asked.path["name"]
    answer = await asked.inside.call("POST", path_of("schedules", name, "resume"))
    return _done(f"Schedule {name} is resumed.", answer)


async def _delete(asked: Asked, _form: Form) -> Done:
    name = asked.path["name"]
    answer = await asked.inside.call("DELETE", path_of("schedules", name))
    return _done(f"Schedule {name} is deleted. Objects that it has submitted go on.", answer)


async def _run(asked: Asked, _form: Form) -> Done:
    name = asked.path["name"]
    answer = await asked.inside.call("POST", path_of("schedules", name, "run"))
    return Done(answer["links"]["self"].removeprefix("/api"), f"Schedule {name} has submitted this object.")


def _done(said: str, answer: Mapping[str, Any]) -> Done:
    return Done("/schedules", " ".join([said, *(f"Warning: {warning}." for warning in answer["warnings"])]))


ACTS = (
    Act("/schedules", PAGE, _set),
    Act("/schedules/{name}/pause", PAGE, _pause),
    Act("/schedules/{name}/resume", PAGE, _resume),
    Act("/schedules/{name}/run", PAGE, _run),
    Act("/schedules/{name}/delete", PAGE, _delete),
)
