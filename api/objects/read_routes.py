"""Routes that read objects: the list, one object (optionally when it has ended), its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import Parts, documented_problems, json_response, now_ms, object_links
from api.objects import schemas
from api.objects.answers import (
    describe_found,
    describe_listed,
    describe_task_of,
    find_object,
    row_of,
    running_tasks,
    wait_of,
)
from api.objects.waiting import MAX_WAIT_S, wait_until
from api.server import problems
from api.server.paths import OBJECT_ID
from api.view.answers import describe_view
from api.view.object_list import Wanted, parse_place, place_text
from app.events import JOIN_SEQUENCE
from app.rules.callbacks import callback_sequence_of
from app.rules.ledger_rows import has_result, known_task, sequences_of, task_of
from app.rules.ledger_states import state_of_object, state_of_task
from app.rules.waiting import END, parse_until

if TYPE_CHECKING:
    from api.view.view import Found

router = APIRouter(prefix="/objects", tags=["objects"])

WAIT_HEADER = "Ebs-Wait"

_MAX_PAGE_BYTES = 4 * 1_048_576
"""Of results and errors in one answer: a thousand tasks may have returned a gigabyte."""


@router.get("/", include_in_schema=False)
@router.get(
    "",
    response_model=schemas.ObjectPage,
    responses=documented_problems(422, 503),
    summary="List objects, newest first",
)
async def read_objects(request: Request, parts: Parts, asked: Annotated[schemas.ObjectsQuery, Query()]) -> Response:
    """Return one page. Objects that arrive between two pages do not shift or repeat entries: a cursor is an instant."""
    after = problems.place_in(asked.cursor, parse_place)
    wanted = Wanted(asked.states(), asked.kind, asked.created_after, asked.created_before, asked.parent)
    objects = parts.view.objects
    page = await objects.page(wanted, asked.limit, after)
    next_cursor = None if page.next_place is None else place_text(page.next_place)
    answer = schemas.ObjectPage(
        objects=[describe_listed(one) for one in page.objects],
        counts=objects.counts(asked.kind),
        next_cursor=next_cursor,
        links=_page_links("/api/objects", dict(request.query_params), next_cursor),
        view=describe_view(parts.view, now_ms(parts)),
    )
    return json_response(answer)


@router.get(
    f"/{OBJECT_ID}",
    response_model=schemas.ObjectDetail,
    responses={
        200: {"headers": {WAIT_HEADER: {"description": "Outcome of the wait", "schema": {"type": "string"}}}},
        **documented_problems(404, 422, 503),
    },
    summary="Get an object, or wait for it",
)
async def read_object(
    object_id: str,
    request: Request,
    parts: Parts,
    wait: Annotated[
        float | None, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for a state. Default: no wait")
    ] = None,
    until: Annotated[
        str,
        Query(
            description="The state to wait for: a state, `end` (FINISHED, FAILED or CANCELLED), or several, separated "
            "by commas. The wait also ends when the object has already passed the state",
            examples=["FINISHED", "end"],
        ),
    ] = END,
) -> Response:
    """Return the object and the progress of its tasks. An accepted object is never a 404.

    With `wait` the answer comes when the object reaches the state, when it can no longer reach it, or when the time is
    over. `wait.outcome` and the header say which.
    """
    try:
        wanted = parse_until(until)
    except ValueError as error:
        raise problems.invalid([{"detail": str(error), "parameter": "until"}]) from None
    if wait is None:
        return json_response(await _detail(parts, object_id, await find_object(object_id, parts), None))
    waited = await wait_until(request, parts, object_id, wanted, wait)
    answer = await _detail(parts, object_id, waited.found, schemas.WaitAnswer(sorted(wanted), waited.outcome))
    return json_response(answer, headers={WAIT_HEADER: waited.outcome})


async def _detail(parts: Parts, object_id: str, found: Found, wait: schemas.WaitAnswer | None) -> schemas.ObjectDetail:
    row = row_of(found)
    joined, callback_error = b"", ""
    if row.join is not None and has_result(row.join):
        (result,) = await parts.view.results.page(object_id, row, [JOIN_SEQUENCE], _MAX_PAGE_BYTES)
        joined = result.result
    if task_of(row, callback_sequence_of(row)) is not None:
        (sent,) = await parts.view.results.page(object_id, row, [callback_sequence_of(row)], _MAX_PAGE_BYTES)
        callback_error = sent.error
    return describe_found(
        object_id,
        found,
        joined=joined,
        callback_error=callback_error,
        children_count=parts.view.objects.children_count(object_id),
        wait=wait,
        view=describe_view(parts.view, now_ms(parts)),
    )


@router.get(
    f"/{OBJECT_ID}/tasks",
    response_model=schemas.TaskPage,
    responses=documented_problems(404, 422, 503),
    summary="List the tasks of an object",
)
async def read_tasks(object_id: str, parts: Parts, asked: Annotated[schemas.TasksQuery, Query()]) -> Response:
    """Return one page of tasks by sequence, with their results, and with the progress of running tasks.

    A page ends early when its results and errors reach 4 MiB. Continue with `next_cursor`.
    """
    row = row_of(await find_object(object_id, parts))
    first = asked.cursor or 0
    wanted = [
        sequence
        for sequence in sequences_of(row)
        if sequence >= first and (asked.state is None or state_of_task(known_task(row, sequence)) is asked.state)
    ]
    results = await parts.view.results.page(object_id, row, wanted[: asked.limit], _MAX_PAGE_BYTES)
    running = running_tasks(parts, object_id)
    tasks = [
        describe_task_of(
            object_id,
            row,
            sequence,
            result,
            running=running.get(sequence),
            waiting=wait_of(parts, object_id, row, sequence),
        )
        for sequence, result in zip(wanted, results, strict=False)
    ]
    next_cursor = str(wanted[len(tasks)]) if len(wanted) > len(tasks) else None
    answer = schemas.TaskPage(
        object_id=object_id,
        state=state_of_object(row),
        tasks_total=row.task_count,
        tasks=tasks,
        next_cursor=next_cursor,
        links=_page_links(object_links(object_id).tasks, asked.model_dump(exclude_unset=True), next_cursor),
        view=describe_view(parts.view, now_ms(parts)),
    )
    return json_response(answer)


def _page_links(path: str, query: dict[str, str], next_cursor: str | None) -> schemas.PageLinks:
    following = None if next_cursor is None else f"{path}?{urlencode(query | {'cursor': next_cursor})}"
    return schemas.PageLinks(path + ("?" + urlencode(query) if query else ""), following)
