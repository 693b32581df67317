"""Objects and their tasks as the routes find and describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from api.dependencies import now_ms, object_links
from api.server import problems
from app.events import parse_task_id
from app.rules.ledger_descriptions import describe_object, describe_task
from app.rules.ledger_rows import ObjectRow

if TYPE_CHECKING:
    from api.dependencies import Collaborators
    from api.view.object_list import Listed
    from api.view.view import Found
    from app.rules.results import ResultRow


async def find_object(object_id: str, parts: Collaborators) -> Found:
    """Return what is known of an object. Raises `Problem` (404), `ViewBehind`."""
    found = await parts.view.find(object_id)
    if found is None:
        raise no_object(object_id)
    return found


def no_object(object_id: str) -> problems.Problem:
    """Return the answer to a question about an object that does not exist."""
    return problems.not_found(f"there is no object {object_id}")


def row_of(found: Found) -> ObjectRow:
    """Return the ledger row; what it would be if nothing but OBJECT_CREATED had been counted, where there is none."""
    if found.row is not None:
        return found.row
    record = found.record
    assert record is not None  # one of the two is there
    return ObjectRow(
        kind=record.kind,
        task_count=record.asked_tasks or 0,
        created_at_ms=record.at_ms,
        callback_url=record.callback_url or "",
    )


def describe_found(object_id: str, found: Found) -> dict[str, Any]:
    """Return an object as people read it."""
    record = found.record
    return {
        **describe_object(object_id, row_of(found)),
        "name": None if record is None else record.name,
        "content": None if record is None else record.content,
        "links": object_links(object_id),
    }


def describe_listed(listed: Listed) -> dict[str, Any]:
    """Return an object as it stands in a list."""
    return {
        **describe_object(listed.object_id, listed.row),
        "name": listed.name,
        "created_at_ms": listed.created_at_ms,
        "links": object_links(listed.object_id),
    }


def describe_task_of(object_id: str, row: ObjectRow, sequence: int, result: ResultRow) -> dict[str, Any]:
    """Return a task as people read it."""
    returned = msgspec.Raw(result.result) if result.result else None
    return {**describe_task(object_id, row, sequence, result), "result": returned}


NOT_RUNNING = {"progress": None, "message": None, "worker": None}


def running_tasks(parts: Collaborators, object_id: str) -> dict[int, dict[str, Any]]:
    """Return by sequence what workers said last of an object's tasks, as far as they tell: of the longest running."""
    told: dict[int, dict[str, Any]] = {}
    for heard in parts.view.workers.alive(now_ms(parts)):
        for task in heard.heartbeat.running:
            parsed = parse_task_id(task.task_id)
            if parsed is not None and parsed[0] == object_id:
                worker = heard.heartbeat.worker
                told[parsed[1]] = {"progress": task.progress, "message": task.message or None, "worker": worker}
    return told
