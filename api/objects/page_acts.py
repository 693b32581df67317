"""Submit objects, cancel one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.dashboard.forms import Act, Done, Form, filled, number_in, work_in
from api.dashboard.inside import path_of
from api.objects import object_page as one_object
from api.objects import submit_page as submit
from api.server.paths import OBJECT_ID

if TYPE_CHECKING:
    from api.dashboard.site import Asked


async def _submit(asked: Asked, form: Form) -> Done:
    wanted: dict[str, Any] = filled(form, "name", "kind", "id", "callback_url", "due_at", "key")
    delay_s = number_in(form, "delay_s")
    if delay_s is not None:
        wanted["delay_s"] = delay_s
    wanted |= work_in(form)
    count = form.get("count", "").strip()
    if count in {"", "1"}:
        answer = await asked.inside.call("POST", "/api/objects", body=wanted)
        return Done(path_of("objects", answer["id"]).removeprefix("/api"), "The object is accepted.")
    answer = await asked.inside.call("POST", "/api/objects", {"count": count}, wanted)
    return Done("/objects", f"{answer['count']:,} objects are accepted.")


async def _cancel(asked: Asked, form: Form) -> Done:
    object_id = asked.path["object_id"]
    await asked.inside.call("DELETE", path_of("objects", object_id), {"reason": form.get("reason", "")})
    return Done(path_of("objects", object_id).removeprefix("/api"), "The object's tasks are being cancelled.")


ACTS = (Act("/objects", submit.PAGE, _submit), Act(f"/objects/{OBJECT_ID}/cancel", one_object.PAGE, _cancel))
