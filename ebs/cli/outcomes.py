"""What became of objects that `ebs submit --wait` waited for: the result of each, or which tasks failed and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.rules.ledger_states import ENDED_OBJECT_STATES, ObjectState, TaskState
from ebs.cli.client import path_of
from ebs.cli.task_tables import short_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ebs.cli.client import ApiClient
    from ebs.cli.object_waits import Ends

_OBJECTS_SHOWN = 10
_ERRORS_SHOWN = 3
_MAX_RESULT_CHARS = 2_000


def shown_ids(ids: Sequence[str], ends: Ends) -> Sequence[str]:
    """Return which objects are described: all if there are few, else the first of those that did not finish."""
    if len(ids) <= _OBJECTS_SHOWN:
        return ids
    return [*ends.failed, *ends.cancelled, *ends.open][:_OBJECTS_SHOWN]


def outcome_of(client: ApiClient, object_id: str) -> dict[str, Any]:
    """Return the state of an object, the result of its join, and the errors of its first dead tasks."""
    found = client.get(path_of("objects", object_id))
    errors: list[dict[str, Any]] = []
    if found["state"] == ObjectState.FAILED:
        path = path_of("objects", object_id, "tasks")
        dead = client.get(path, state=TaskState.DEAD, limit=_ERRORS_SHOWN)["tasks"]
        # A callback that was not delivered fails no object.
        errors = [_error_of(object_id, task) for task in dead if task["role"] != "callback"]
    names = ("id", "state", "result", "tasks_dead")
    return {name: found[name] for name in names} | {"errors": errors}


def _error_of(object_id: str, task: Mapping[str, Any]) -> dict[str, Any]:
    return {"task": task["id"].removeprefix(f"{object_id}-"), "attempts": task["attempts"], "error": task["error"]}


def outcome_lines(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Yield an outcome in words, with the command that shows more."""
    object_id = outcome["id"]
    if outcome["state"] not in ENDED_OBJECT_STATES:
        yield f"object {object_id}: not ended yet, it is {outcome['state']}: `ebs status {object_id} --wait` waits on"
        return
    yield f"object {object_id}: {outcome['state']}"
    if outcome["result"] is not None:
        yield f"  result: {short_json(outcome['result'], _MAX_RESULT_CHARS)}"
    for one in outcome["errors"]:
        tries = "1 attempt" if one["attempts"] == 1 else f"{one['attempts']} attempts"
        yield f"  {_label(one['task'])} failed after {tries}: {one['error']}"
    if outcome["errors"]:
        more = outcome["tasks_dead"] - len(outcome["errors"])
        if more > 0:
            yield f"  {more} more failed: `ebs tasks {object_id}` lists all tasks"
        yield f"  `ebs tasks {object_id} {outcome['errors'][0]['task']}` shows every attempt and the stack trace"


def _label(task: str) -> str:
    return f"task {task}" if task.isdecimal() else task
