"""One task with every attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Response

from api.dependencies import Parts, documented_problems, json_response, now_ms, object_links, task_link
from api.objects.answers import describe_task_of, find_object, row_of, running_tasks, wait_of
from api.objects.task_schemas import AttemptAnswer, SpanAnswer, TaskDetail, TaskLinks
from api.server import problems
from api.server.paths import OBJECT_ID
from api.view.answers import describe_view
from api.view.event_log import EventsUnavailable
from api.view.task_history import WantedTask
from app.events import (
    CALLBACK_KIND,
    CALLBACK_SEQUENCE,
    JOIN_SEQUENCE,
    MAX_TASKS,
    SPLIT_SEQUENCE,
    parse_task_id,
    task_id_of,
)
from app.rules.cancels import task_in
from app.rules.ledger_rows import task_of
from app.rules.ledger_states import state_of_object
from app.rules.new_tasks import tasks_of_items
from app.rules.timeline import with_wait
from ebs.client.segments import segment

if TYPE_CHECKING:
    from api.view.task_history import TaskHistory
    from api.view.view import Found
    from app.events import ObjectCreated
    from app.rules.ledger_rows import ObjectRow

router = APIRouter(prefix="/objects", tags=["objects"])

_MAX_RESULT_BYTES = 4 * 1_048_576


@router.get(
    f"/{OBJECT_ID}/tasks/{{task:segment}}",
    response_model=TaskDetail,
    responses=documented_problems(404, 422, 503),
    summary="Get a task with every attempt",
)
async def read_task(object_id: str, task: str, parts: Parts) -> Response:
    """Return a task of an object, named by its sequence (from 0), `split`, `join` or `callback1`.

    Attempts, errors and stack traces are read from the topics: they are there as long as the topics keep them
    (EBS_RETENTION_DAYS). `history_complete` says whether all of them are.
    """
    found = await find_object(object_id, parts)
    row = row_of(found)
    sequence = _sequence_of(object_id, task, row)
    (result,) = await parts.view.results.page(object_id, row, [sequence], _MAX_RESULT_BYTES)
    needs_request = not _is_told_by_object(found.record, row, sequence)
    wanted = WantedTask(object_id, parts.view.partition_of(object_id), row, sequence, needs_request)
    try:
        history = await parts.histories.read(wanted, now_ms(parts))
    except EventsUnavailable as error:
        raise problems.unavailable("events-unavailable", str(error)) from error
    running = running_tasks(parts, object_id).get(sequence)
    waiting = wait_of(parts, object_id, row, sequence)
    spans = history.spans if waiting is None else with_wait(history.spans, waiting.reason, waiting.due_at_ms)
    detail = TaskDetail(
        **msgspec.structs.asdict(describe_task_of(object_id, row, sequence, result, running=running, waiting=waiting)),
        object_id=object_id,
        **_subject_of(found, sequence, history),
        redrives=history.redrive,
        attempt_history=[AttemptAnswer(**msgspec.structs.asdict(one)) for one in history.attempts],
        timeline=[
            SpanAnswer(one.what, one.from_ms, one.to_ms, one.attempt, one.redrive, one.outcome or None) for one in spans
        ],
        history_complete=history.is_complete,
        links=_links(object_id, sequence),
        view=describe_view(parts.view, now_ms(parts)),
    )
    return json_response(detail)


def _sequence_of(object_id: str, name: str, row: ObjectRow) -> int:
    """Return the sequence of the task that a path names. Raises `Problem` (404)."""
    parsed = parse_task_id(f"{object_id}-{name}")
    # An object may be called `a-1`, and `a-1-split` is no task `1-split` of `a`.
    if parsed is None or parsed[0] != object_id:
        raise problems.not_found(
            f"a task is named by its sequence (0 is the first one), split, join or callback1, not {name!r}"
        )
    sequence = parsed[1]
    if task_of(row, sequence) is not None:
        return sequence
    task_id = task_id_of(object_id, sequence)
    if task_in(row, sequence) is not None:
        state = state_of_object(row)
        raise problems.not_found(f"task {task_id} does not exist yet: object {object_id} is {state}")
    raise problems.not_found(f"there is no task {task_id}: object {object_id} {_what_it_has(row, sequence)}")


def _what_it_has(row: ObjectRow, sequence: int) -> str:
    if sequence == SPLIT_SEQUENCE:
        return "was not split by a function"
    if sequence == JOIN_SEQUENCE:
        return "has no join"
    if sequence >= CALLBACK_SEQUENCE:
        return "has no such callback"
    return f"has {row.task_count} task{'' if row.task_count == 1 else 's'}, counted from 0"


def _is_told_by_object(record: ObjectCreated | None, row: ObjectRow, sequence: int) -> bool:
    """Return whether the object's own record says what a task is about, as long as nobody edits it for a redrive."""
    if record is None:
        return False
    if sequence == SPLIT_SEQUENCE:
        return True
    count = MAX_TASKS if record.items is msgspec.UNSET else len(record.items)
    return row.split is None and sequence < count


def _subject_of(found: Found, sequence: int, history: TaskHistory) -> dict[str, Any]:
    """Return what a task is about: what its last request says, or its object."""
    record, request = found.record, history.request
    name = None if record is None else record.name
    kind = CALLBACK_KIND if sequence >= CALLBACK_SEQUENCE else row_of(found).kind
    told: dict[str, Any] = {"kind": kind, "name": name, "content": None, "content_deleted": False}
    if request is not None:
        name = name if request.name is msgspec.UNSET else request.name
        return told | {"kind": request.kind, "name": name, "content": request.content}
    if record is None or history.redrive or not _is_told_by_object(record, row_of(found), sequence):
        return told | {"name": None, "content_deleted": True}
    if sequence == SPLIT_SEQUENCE or record.items is msgspec.UNSET:
        return told | {"content": record.content}
    (item,) = tasks_of_items([record.items[sequence]], record.name)
    return told | {"name": item.name, "content": item.content}


def _links(object_id: str, sequence: int) -> TaskLinks:
    of_object = object_links(object_id)
    letters = f"/api/dead-letters?object_id={segment(object_id)}"
    return TaskLinks(task_link(object_id, sequence), of_object.self, of_object.tasks, of_object.events, letters)
