"""Objects and their tasks as the routes find and describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

import msgspec
from msgspec.structs import asdict, astuple

from api.dependencies import now_ms, object_links
from api.objects.schemas import (
    CallbackAnswer,
    DetailLinks,
    ListedObject,
    ObjectDetail,
    ParentAnswer,
    TaskAnswer,
    WaitsAnswer,
)
from api.server import problems
from app.events import AboutObject, parse_task_id, task_id_of
from app.rules.callbacks import describe_callback
from app.rules.ledger_descriptions import describe_object, describe_task
from app.rules.ledger_rows import ObjectRow, known_task
from app.rules.ledger_states import ENDED_STATES, TaskState, state_of_task

if TYPE_CHECKING:
    from api.dependencies import Collaborators
    from api.objects.schemas import WaitAnswer
    from api.server.schemas import ViewAnswer
    from api.view.object_list import Listed
    from api.view.view import Found
    from app.rules.results import ResultRow

_NEVER_WAITING = frozenset({*ENDED_STATES, TaskState.IN_PROGRESS})


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
        about=AboutObject(callback_url=record.callback_url or ""),
    )


def describe_found(
    object_id: str,
    found: Found,
    *,
    joined: bytes,
    callback_error: str,
    children_count: int,
    wait: WaitAnswer | None,
    view: ViewAnswer,
) -> ObjectDetail:
    """Return an object with what its join returned, empty if there is nothing."""
    record = found.record
    callback = describe_callback(object_id, row_of(found), callback_error)
    parent = None if record is None or record.parent is msgspec.UNSET else ParentAnswer(*astuple(record.parent))
    return ObjectDetail(
        **describe_object(object_id, row_of(found)),
        name=None if record is None else record.name,
        content=None if record is None else record.content,
        parent=parent,
        children_count=children_count,
        links=_detail_links(object_id, parent),
        result=raw_of(joined),
        callback=None if callback is None else CallbackAnswer(**callback),
        wait=wait,
        view=view,
    )


def _detail_links(object_id: str, parent: ParentAnswer | None) -> DetailLinks:
    of_parent = None if parent is None else object_links(parent.object_id).self
    children = f"/api/objects?{urlencode({'parent': object_id})}"
    return DetailLinks(**asdict(object_links(object_id)), parent=of_parent, children=children)


def describe_listed(listed: Listed) -> ListedObject:
    """Return an object as an entry of a list."""
    described = describe_object(listed.object_id, listed.row) | {"created_at_ms": listed.created_at_ms}
    return ListedObject(**described, name=listed.name, links=object_links(listed.object_id))


def describe_task_of(
    object_id: str,
    row: ObjectRow,
    sequence: int,
    result: ResultRow,
    *,
    running: TaskActivity | None,
    waiting: WaitsAnswer | None,
) -> TaskAnswer:
    """Return a task; with its progress, message and worker if it runs, and with what it waits for."""
    return TaskAnswer(
        waiting=waiting,
        **describe_task(object_id, row, sequence, result),
        result=raw_of(result.result),
        **(running or NOT_RUNNING)._asdict(),
    )


def wait_of(parts: Collaborators, object_id: str, row: ObjectRow, sequence: int) -> WaitsAnswer | None:
    """Return what a task waits for in the table `waiting`, None if it does not."""
    if parts.view.waiting.is_empty or state_of_task(known_task(row, sequence)) in _NEVER_WAITING:
        return None
    found = parts.view.waiting.task(task_id_of(object_id, sequence))
    return None if found is None else WaitsAnswer(found.task.reason, found.task.due_at_ms or None)


def raw_of(result: bytes) -> msgspec.Raw | None:
    """Return a result for an answer; None where there is none."""
    return msgspec.Raw(result) if result else None


class TaskActivity(NamedTuple):
    """What a task's worker said last of it; None if it does not run."""

    progress: float | None
    message: str | None
    worker: str | None


NOT_RUNNING = TaskActivity(None, None, None)


def running_tasks(parts: Collaborators, object_id: str) -> dict[int, TaskActivity]:
    """Return an object's running tasks by sequence, as far as workers tell: a heartbeat names the longest running."""
    told: dict[int, TaskActivity] = {}
    for heard in parts.view.workers.alive(now_ms(parts)):
        for task in heard.heartbeat.running:
            parsed = parse_task_id(task.task_id)
            if parsed is not None and parsed[0] == object_id:
                told[parsed[1]] = TaskActivity(task.progress, task.message or None, heard.heartbeat.worker)
    return told
