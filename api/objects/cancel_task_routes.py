"""Cancels of tasks, one or many; `DELETE /api/objects/{id}` cancels an object."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from msgspec import UNSET

from api.control import schemas as schemas
from api.control.answers import now_ms, put
from api.dependencies import Collaborators, Parts, documented_body, documented_problems
from api.objects.answers import find_object, row_of
from api.server import problems
from api.submit.body import read_body
from app.rules.commands import Cancel, Family, Place
from app.rules.ledger_states import ENDED_STATES, state_of_task

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
    """None of them starts any more and running ones are cancelled; `DELETE /api/objects/{id}` cancels an object."""
    asked = await read_body(request, parts.settings.max_body_bytes, schemas.CancelAsked)
    if asked.task_id is not None:
        if asked.kind is not None or asked.created_before_ms is not None:
            raise problems.invalid([{"detail": "A task needs no filter: leave out the others", "pointer": "#/task_id"}])
        await _check_task(asked.task_id, parts)
        place = Place(Family.CANCEL_TASK, asked.task_id)
        return await put(parts, place, Cancel(task_id=asked.task_id, at_ms=now_ms(parts), reason=asked.reason))
    return await put(parts, *_filter_of(asked, now_ms(parts)))


async def _check_task(task_id: str, parts: Collaborators) -> None:
    object_id, _, sequence = task_id.rpartition("-")
    if not object_id or not sequence.isdecimal():
        raise problems.not_found(f"there is no task {task_id}: a task's id is its object's, a dash and a number")
    row = row_of(await find_object(object_id, parts))
    number = int(sequence)
    if number < len(row.tasks):
        state = state_of_task(row.tasks[number])
        if state in ENDED_STATES:
            raise problems.conflict("already-ended", f"task {task_id} has ended: it is {state}", {"state": state})
    elif row.task_count and number >= row.task_count:
        raise problems.not_found(f"there is no task {task_id}: object {object_id} has {row.task_count} tasks")


def _filter_of(asked: schemas.CancelAsked, at_ms: int) -> tuple[Place, Cancel]:
    before_ms = asked.created_before_ms
    if before_ms is None:
        if asked.kind is None:
            detail = "Name what to cancel: task_id, kind, or created_before_ms for tasks of all kinds"
            raise problems.invalid([{"detail": detail, "pointer": "#"}])
        before_ms = at_ms
    if before_ms > at_ms:
        detail = f"Input should not lie in the future (it is {at_ms} now): pause a kind to hold what is yet to come"
        raise problems.invalid([{"detail": detail, "pointer": "#/created_before_ms"}])
    # The same filter again has the same name, so it is the same command.
    place = Place(Family.CANCEL_FILTER, f"{asked.kind or '*'}-{before_ms}")
    command = Cancel(kind=asked.kind or UNSET, created_before_ms=before_ms, at_ms=at_ms, reason=asked.reason)
    return place, command
