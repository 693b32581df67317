"""Waiting tasks: list, count, start now, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response
from msgspec import UNSET

from api.control.answers import commander_of
from api.dependencies import (
    Collaborators,
    Parts,
    documented_body,
    documented_problems,
    json_response,
    now_ms,
    object_links,
    task_link,
)
from api.server import problems
from api.submit.body import read_struct
from api.view.answers import describe_view
from api.view.waiting_tasks import parse_position, position_text
from api.waiting import schemas
from app.events import parse_task_id
from app.rules.commands import CancelWaiting, CommandKey, Family, StartTask, StartWaiting, filter_name
from app.rules.waiting_rows import REASONS, TIMED_REASONS
from app.rules.waiting_summaries import WaitingFilter, why_not_started
from app.telemetry.near_names import did_you_mean, shown

if TYPE_CHECKING:
    from api.view.waiting_tasks import WaitingGroup, WaitingTask
    from app.rules.commands import OfWaiting

router = APIRouter(prefix="/waiting", tags=["waiting"])


@router.get(
    "",
    response_model=schemas.WaitingPage,
    responses=documented_problems(422, 503),
    summary="List waiting tasks in the order in which they are due",
)
async def read_waiting(parts: Parts, asked: Annotated[schemas.WaitingQuery, Query()]) -> Response:
    """Return one page of the tasks that wait in the table `waiting` and match all conditions."""
    after = problems.place_in(asked.cursor, parse_position)
    found, position = await parts.view.waiting.page(_filter_of(asked, parameter="reason"), asked.limit, after)
    next_cursor = None if position is None else position_text(position)
    view = describe_view(parts.view, now_ms(parts))
    return json_response(schemas.WaitingPage([_described(one) for one in found], next_cursor, view))


@router.get(
    "/counts",
    response_model=schemas.WaitingCounts,
    responses=documented_problems(422, 503),
    summary="Count waiting tasks by kind and reason",
)
async def count_waiting(parts: Parts, asked: Annotated[schemas.CountsQuery, Query()]) -> Response:
    """Return how many tasks of each kind wait for each reason, and when the first of them is due."""
    groups = await parts.view.waiting.groups(_filter_of(asked, parameter="reason"))
    described = [schemas.WaitingGroupAnswer(*one) for one in groups]
    view = describe_view(parts.view, now_ms(parts))
    return json_response(schemas.WaitingCounts(sum(one.waiting_count for one in groups), described, view))


@router.post(
    "/start",
    status_code=202,
    response_model=schemas.OrderAccepted,
    responses=documented_problems(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=documented_body(schemas.StartAsked, "A task, or a filter", required=True),
    summary="Start waiting tasks now",
)
async def start(request: Request, parts: Parts) -> Response:
    """Make retries and delayed tasks due now. Tasks that wait for their kind or key cannot be started.

    A filter matches the tasks that wait now. A task that begins to wait later waits for its own time.
    """
    asked = await read_struct(request, parts.settings.max_body_bytes, schemas.StartAsked)
    wanted = _filter_of(asked, pointer="#/reason")
    if asked.task_id is not None:
        if wanted != WaitingFilter() or asked.all:
            detail = "A task needs no filter: leave out the other fields"
            raise problems.invalid([{"detail": detail, "pointer": "#/task_id"}])
        return await _start_task(parts, asked.task_id)
    groups = await _groups_of(parts, wanted, is_all=asked.all)
    startable = [one for one in groups if one.reason in TIMED_REASONS]
    others = [one for one in groups if one.reason not in TIMED_REASONS]
    if not startable:
        raise problems.conflict("not-startable", why_not_started(others[0].kind, others[0].reason))
    warnings = _of_paused_kinds(parts, {one.kind for one in startable})
    for one in others:
        why = why_not_started(one.kind, one.reason)
        warnings.append(f"tasks of kind {one.kind} that do not start: {one.waiting_count:,}; {why}")
    at_ms = now_ms(parts)
    order = StartWaiting(at_ms, wanted.kind or UNSET, wanted.reason or UNSET, wanted.object_id or UNSET)
    return await _put(parts, Family.START_WAITING, order, sum(one.waiting_count for one in startable), warnings)


@router.post(
    "/cancel",
    status_code=202,
    response_model=schemas.OrderAccepted,
    responses=documented_problems(400, 404, 413, 415, 422, 503),
    openapi_extra=documented_body(schemas.CancelWaitingAsked, "A filter", required=True),
    summary="Cancel waiting tasks",
)
async def cancel(request: Request, parts: Parts) -> Response:
    """Cancel the tasks that wait now and match all conditions. Running tasks and later tasks are not affected.

    `POST /api/control/cancel` cancels one task, or all tasks of a kind, also those that run.
    """
    asked = await read_struct(request, parts.settings.max_body_bytes, schemas.CancelWaitingAsked)
    wanted = _filter_of(asked, pointer="#/reason")
    groups = await _groups_of(parts, wanted, is_all=asked.all)
    at_ms = now_ms(parts)
    order = CancelWaiting(at_ms, wanted.kind or UNSET, wanted.reason or UNSET, wanted.object_id or UNSET)
    return await _put(parts, Family.CANCEL_WAITING, order, sum(one.waiting_count for one in groups), [])


def _filter_of(
    asked: schemas.CountsQuery | schemas.CancelWaitingAsked | schemas.StartAsked, **where: str
) -> WaitingFilter:
    """Return which tasks are meant. Raises `Problem` (422) for an unknown reason; `where` that is in the request."""
    wanted = WaitingFilter.of(asked)
    if wanted.reason and wanted.reason not in REASONS:
        detail = (
            f"no task waits for {shown(wanted.reason)}: the reasons are retry, delay, kind (it is paused, or its rate "
            "or concurrency is used up) and key"
        )
        raise problems.invalid([{"detail": detail, **where}])
    return wanted


async def _groups_of(parts: Collaborators, wanted: WaitingFilter, *, is_all: bool) -> list[WaitingGroup]:
    """Return the waiting tasks that match, by kind and reason. Raises `Problem` (404, 422)."""
    if wanted == WaitingFilter() and not is_all:
        detail = 'Name a condition (kind, reason, object_id), or set "all": true for all waiting tasks'
        raise problems.invalid([{"detail": detail, "pointer": "#"}])
    waiting = parts.view.waiting
    await waiting.catch_up()
    groups = await waiting.groups(wanted)
    if not groups:
        known = {one.kind for one in await waiting.groups(WaitingFilter())} if wanted.kind else set()
        guess = "" if wanted.kind in known else did_you_mean(wanted.kind or "", known)
        raise problems.not_found(f"no waiting task matches{guess}")
    return groups


async def _start_task(parts: Collaborators, task_id: str) -> Response:
    waiting = parts.view.waiting
    # A row that was started before has a new key: the command must name the present one.
    await waiting.catch_up()
    found = waiting.task(task_id)
    if found is None:
        detail = (
            f"task {task_id} does not wait: it is queued, runs or has ended, or does not exist (see `ebs tasks`). The "
            "id of a task is that of its object and a number, such as -0. For all tasks of an object, give object_id "
            "(`--object ID`)"
        )
        raise problems.not_found(detail)
    if found.task.reason not in TIMED_REASONS:
        raise problems.conflict("not-startable", why_not_started(found.task.kind, found.task.reason))
    at_ms = now_ms(parts)
    warnings = _of_paused_kinds(parts, {found.task.kind})
    if found.has_started and found.task.due_at_ms <= at_ms:
        warnings.append(f"task {task_id} runs already")
    elif found.task.due_at_ms <= at_ms:
        warnings.append(f"task {task_id} is due already: it starts as soon as its worker has a free place")
    return await _put(parts, Family.START_TASK, StartTask(task_id, found.partition, found.row, at_ms), 1, warnings)


def _of_paused_kinds(parts: Collaborators, kinds: set[str]) -> list[str]:
    """Return a warning for each paused kind: its tasks become due, but do not start."""
    warnings = []
    for kind in sorted(kinds):
        pauses = parts.view.control.state.pauses_of(kind)
        if pauses:
            undo = " and ".join(f"`ebs resume --kind {name}`" if name else "`ebs resume`" for name in pauses)
            warnings.append(f"kind {kind} is paused: its tasks start after {undo}")
    return warnings


async def _put(
    parts: Collaborators, family: Family, order: OfWaiting | StartTask, count: int, warnings: list[str]
) -> Response:
    name = order.task_id if isinstance(order, StartTask) else filter_name(order)
    command_key = CommandKey(family, name)
    seen = await commander_of(parts).put(command_key, order)
    answer = schemas.OrderAccepted(
        key=command_key.encoded().decode(),
        status="accepted",
        seen=seen,
        tasks_count=count,
        at_ms=order.at_ms,
        warnings=warnings,
    )
    return json_response(answer, 202)


def _described(one: WaitingTask) -> schemas.WaitingAnswer:
    task = one.task
    parsed = parse_task_id(task.task_id)
    link = object_links(task.object_id).self
    return schemas.WaitingAnswer(
        task_id=task.task_id,
        object_id=task.object_id,
        kind=task.kind,
        reason=task.reason,
        queue=one.queue,
        due_at_ms=task.due_at_ms or None,
        attempt=task.attempt,
        waits_since_ms=task.since_ms or None,
        error=task.error or None,
        started=one.has_started,
        links=schemas.WaitingLinks(link if parsed is None else task_link(task.object_id, parsed[1]), link),
    )
