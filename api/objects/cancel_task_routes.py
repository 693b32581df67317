"""Cancels of tasks, one or many; `DELETE /api/objects/{id}` cancels an object."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.control import schemas
from api.control.answers import put
from api.dependencies import Collaborators, Parts, documented_body, documented_problems, now_ms
from api.objects.answers import find_object, row_of
from api.server import problems
from api.submit.body import read_struct
from app.events import parse_task_id
from app.rules.cancels import BadFilter, cancel_by_filter, task_in
from app.rules.commands import Cancel, CommandKey, Family
from app.rules.ledger_states import ENDED_STATES

router = APIRouter(prefix="/control", tags=["control"])


@router.post(
    "/cancel",
    status_code=202,
    response_model=schemas.CommandAccepted,
    responses=documented_problems(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=documented_body(schemas.CancelAsked, "A task, or a filter", required=True),
    summary="Cancel a task, or all tasks that match a filter",
)
async def cancel(request: Request, parts: Parts) -> Response:
    """Cancel waiting and running tasks; ended tasks stay as they are. `DELETE /api/objects/{id}` cancels an object."""
    asked = await read_struct(request, parts.settings.max_body_bytes, schemas.CancelAsked)
    if asked.task_id is not None:
        if asked.kind is not None or asked.created_before_ms is not None:
            raise problems.invalid([{"detail": "A task needs no filter: leave out the others", "pointer": "#/task_id"}])
        await _check_task(asked.task_id, parts)
        place = CommandKey(Family.CANCEL_TASK, asked.task_id)
        return await put(parts, place, Cancel(task_id=asked.task_id, at_ms=now_ms(parts), reason=asked.reason))
    try:
        command = cancel_by_filter(asked.kind, asked.created_before_ms, at_ms=now_ms(parts), reason=asked.reason)
    except BadFilter as error:
        pointer = f"#/{error.field}" if error.field else "#"
        raise problems.invalid([{"detail": str(error), "pointer": pointer}]) from None
    return await put(parts, *command)


async def _check_task(task_id: str, parts: Collaborators) -> None:
    parsed = parse_task_id(task_id)
    if parsed is None:
        raise problems.not_found(f"there is no task {task_id}: a task's id is its object's, a dash and a number")
    object_id, sequence = parsed
    row = row_of(await find_object(object_id, parts))
    state = task_in(row, sequence)
    if state is None:
        raise problems.not_found(f"there is no task {task_id}: object {object_id} has {row.task_count} tasks")
    if state in ENDED_STATES:
        raise problems.conflict("already-ended", f"task {task_id} has ended: it is {state}", {"state": state})
