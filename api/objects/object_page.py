"""One object: its split, its tasks and its join on a line of time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from api.dashboard import words
from api.dashboard.inside import Refused, path_of
from api.dashboard.site import Asked, Page
from api.objects.timeline_drawing import segments_of
from api.server.paths import OBJECT_ID
from app.events import MAX_TASKS
from app.rules.ledger_states import ENDED_OBJECT_STATES
from app.rules.row_spans import TaskTimes, spans_of
from app.rules.timeline import name_of, order_of

_TASKS_A_PAGE = 1_000
_SHOWN_TASKS = 100
_MOST_PAGES = 10
"""Ten thousand tasks without results, or some 40 MiB of results: more is no page."""
_SHOWN_EVENTS = 500
_WORKED = frozenset({"TASK_FINISHED", "TASK_FAILED"})


async def _load(asked: Asked) -> dict[str, Any]:
    object_id = asked.path["object_id"]
    everything = asked.query.get("tasks") == "all"
    answer, tasks = await asyncio.gather(
        asked.inside.get(path_of("objects", object_id)), _tasks_of(asked, object_id, everything=everything)
    )
    begin_ms, end_ms = _span(answer, tasks, asked.now_ms)
    return {
        "data": answer,
        "object": answer,
        "tasks": [_drawn(task, begin_ms, end_ms, asked.now_ms) for task in tasks],
        "shows_all": everything,
        "hidden_count": max(0, answer["tasks_total"] - sum(task["role"] == "task" for task in tasks)) if tasks else 0,
        "begin_ms": begin_ms,
        "end_ms": end_ms,
        "has_ended": answer["state"] in ENDED_OBJECT_STATES,
    }


async def _tasks_of(asked: Asked, object_id: str, *, everything: bool) -> list[dict[str, Any]]:
    """Return the first tasks, or those of all pages that make a page for people, and all that have a role."""
    path = path_of("objects", object_id, "tasks")
    limit = _TASKS_A_PAGE if everything else _SHOWN_TASKS
    page, with_role = await asyncio.gather(
        asked.inside.get(path, limit=limit), asked.inside.get(path, limit=_SHOWN_TASKS, cursor=MAX_TASKS)
    )
    tasks: list[dict[str, Any]] = page["tasks"]
    for _ in range(_MOST_PAGES - 1 if everything else 0):
        if page["next_cursor"] is None:
            break
        page = await asked.inside.get(path, limit=_TASKS_A_PAGE, cursor=page["next_cursor"])
        tasks += page["tasks"]
    # What tells others of the end comes after it: it would not fit on the line of time.
    shown = (task for task in [*tasks, *with_role["tasks"]] if task["role"] != "callback")
    by_sequence = {task["sequence"]: task for task in shown}
    return [by_sequence[sequence] for sequence in sorted(by_sequence, key=order_of)]


def _drawn(task: dict[str, Any], begin_ms: int, end_ms: int, now_ms: int) -> dict[str, Any]:
    spans = spans_of(msgspec.convert(task, TaskTimes), now_ms)
    segments = segments_of(spans, task["state"], begin_ms, end_ms, now_ms)
    return {**task, "task_name": name_of(task["sequence"]), "segments": segments}


async def _load_events(asked: Asked) -> dict[str, Any]:
    """Return the events so far; a script adds those that come (`events.js`), from where these end."""
    path = path_of("objects", asked.path["object_id"], "events")
    try:
        answer = await asked.inside.get(path, limit=_SHOWN_EVENTS)
    except Refused as error:
        return {"events": [], "events_path": path, "no_events": error.problem["detail"], "more_events": False}
    events = [{**event, "details": _details_of(event)} for event in answer["events"]]
    return {"events": events, "events_path": path, "no_events": None, "more_events": answer["next_after"] is not None}


def _details_of(event: dict[str, Any]) -> list[str]:
    """Return what an event tells beside its task; as `events.js` words it."""
    told = [str(event[name]) for name in ("worker", "error") if event.get(name)]
    if event["type"] == "TASKS_CREATED":
        first, last = event["first"], event["first"] + event["count"] - 1
        one = event.get("role") or f"task {first}"
        told.append(one if first == last else f"tasks {first} to {last}")
    if event["type"] == "TASK_STARTED" and event.get("wait_ms") is not None:
        told.append(f"waited {words.duration(event['wait_ms'])}")
    if event["type"] in _WORKED and event.get("spent_ms") is not None:
        told.append(f"worked {words.duration(event['spent_ms'])}")
    return told


def _span(answer: dict[str, Any], tasks: list[dict[str, Any]], now_ms: int) -> tuple[int, int]:
    """Return from when to when the line of time goes: to now while the object is under way."""
    begin_ms = answer["created_at_ms"] or min((task["created_at_ms"] or now_ms for task in tasks), default=now_ms)
    return begin_ms, max(answer["ended_at_ms"] or now_ms, begin_ms + 1)


PAGE = Page(f"/objects/{OBJECT_ID}", "object.html", "Object", _load, _load_events)
