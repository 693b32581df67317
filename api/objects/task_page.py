"""One task: what it is about, its line of time, and every attempt with its error and stack trace."""

from __future__ import annotations

from typing import Any

import msgspec

from api.dashboard.inside import Refused, path_of
from api.dashboard.site import Asked, Page
from api.objects.timeline_drawing import segments_of
from api.server.paths import OBJECT_ID
from app.events import parse_task_id
from app.rules.ledger_states import ENDED_STATES
from app.rules.row_spans import TaskTimes, spans_of
from app.rules.timeline import Span, name_of

_UNAVAILABLE = 503
_LETTERS = 50


async def _load(asked: Asked) -> dict[str, Any]:
    object_id, name = asked.path["object_id"], asked.path["task"]
    try:
        task = await asked.inside.get(path_of("objects", object_id, "tasks", name))
    except Refused as error:
        if error.status != _UNAVAILABLE:
            raise
        task = await _without_history(asked, object_id, name, error)
    begin_ms = task["created_at_ms"] or asked.now_ms
    end_ms = max(begin_ms + 1, task["ended_at_ms"] or asked.now_ms)
    spans = [msgspec.convert(span | {"outcome": span["outcome"] or ""}, Span) for span in task["timeline"]]
    return {
        "data": task,
        "task": task,
        "task_name": name_of(task["sequence"]),
        "segments": segments_of(spans, task["state"], begin_ms, end_ms, asked.now_ms),
        "begin_ms": begin_ms,
        "end_ms": end_ms,
        "has_ended": task["state"] in ENDED_STATES,
        # The last one first: it is why somebody looks.
        "history": task["attempt_history"][::-1],
        "no_history": task.get("no_history"),
    }


async def _without_history(asked: Asked, object_id: str, name: str, error: Refused) -> dict[str, Any]:
    """Return what the view alone knows of a task, while the broker does not hand out its events."""
    parsed = parse_task_id(f"{object_id}-{name}")
    if parsed is None:
        raise error
    page = await asked.inside.get(path_of("objects", object_id, "tasks"), cursor=str(parsed[1]), limit=1)
    if not page["tasks"] or page["tasks"][0]["sequence"] != parsed[1]:
        raise error
    task = page["tasks"][0]
    spans = spans_of(msgspec.convert(task, TaskTimes), asked.now_ms)
    unknown = {"kind": None, "name": None, "content": None, "content_deleted": False, "redrives": 0}
    told = {"attempt_history": [], "timeline": msgspec.to_builtins(spans), "history_complete": True}
    return {**task, **unknown, **told, "object_id": object_id, "no_history": error.problem["detail"]}


async def _load_letters(asked: Asked) -> dict[str, Any]:
    """Return the dead letters of the task, once: to find them costs more than the rest of the page."""
    object_id, name = asked.path["object_id"], asked.path["task"]
    try:
        found = await asked.inside.get("/api/dead-letters", object_id=object_id, limit=_LETTERS)
    except Refused:
        return {"letters": []}
    task_id = f"{object_id}-{name}"
    return {"letters": [letter for letter in found["dead_letters"] if letter["task_id"] == task_id]}


PAGE = Page(f"/objects/{OBJECT_ID}/tasks/{{task:segment}}", "task.html", "Task", _load, _load_letters)
