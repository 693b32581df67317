"""Dead letters: list, show, redrive, discard."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from api.dead_letters import schemas
from api.dead_letters.answers import describe_fully, describe_groups, describe_letter, letter_links
from api.dependencies import Parts, documented_body, documented_problems, json_response, now_ms
from api.server import problems
from api.submit.body import read_struct
from api.view.answers import describe_view
from api.view.dead_letters import parse_position, position_text
from app.rules.letter_acts import LetterId, parse_letter_id
from app.rules.letter_filter import filter_from

router = APIRouter(prefix="/dead-letters", tags=["dead letters"])


@router.get(
    "",
    response_model=schemas.LetterList | schemas.GroupList,
    responses=documented_problems(422, 503),
    summary="List dead letters, newest first, or groups of them",
)
async def read_letters(parts: Parts, asked: Annotated[schemas.LettersQuery, Query()]) -> Response:
    """Return one page of the letters that match all conditions, or the groups that contain such letters."""
    wanted = filter_from(asked)
    after = problems.place_in(asked.cursor, parse_position)
    letters = parts.view.dead_letters
    view = describe_view(parts.view, now_ms(parts))
    if asked.group_by is not None and asked.object_id is not None:
        detail = "Groups have the letters of many objects: leave out object_id, or group_by"
        raise problems.invalid([{"detail": detail, "parameter": "object_id"}])
    if asked.group_by is not None:
        groups = await letters.groups(wanted, asked.limit)
        return json_response(schemas.GroupList([describe_groups(one) for one in groups], view))
    page, position = await letters.page(wanted, asked.limit, after)
    listed = [describe_letter(one.letter_id, one.summary) for one in page]
    next_cursor = None if position is None else position_text(position)
    return json_response(schemas.LetterList(listed, next_cursor, view))


@router.get(
    "/{letter_id}",
    response_model=schemas.LetterDetail,
    responses=documented_problems(404, 503),
    summary="Get a dead letter",
)
async def read_letter(letter_id: str, parts: Parts) -> Response:
    """Return its bytes, headers and stack trace, and whether it was redriven or discarded."""
    parsed = _parse(letter_id)
    letters = parts.view.dead_letters
    summary = letters.summary(parsed)
    if summary is None:
        await parts.view.catch_up(parts.view.names.dead_letters)
        summary = letters.summary(parsed)
    if summary is None:
        raise _unknown(letter_id)
    return json_response(describe_fully(parsed, summary, letters.letter(parsed)))


@router.post(
    "/{letter_id}/redrive",
    status_code=202,
    response_model=schemas.RedriveAccepted,
    responses=documented_problems(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=documented_body(schemas.LetterEdit, "Without a body the letter is redriven unchanged"),
    summary="Redrive a dead letter, edited or unchanged",
)
async def redrive_letter(letter_id: str, request: Request, parts: Parts) -> Response:
    """Return 202 when Kafka has stored the new first attempt. A letter is redriven once, a task at most three times."""
    payload = (await read_struct(request, parts.settings.max_body_bytes, schemas.LetterEdit)).payload
    edit = None if payload is msgspec.UNSET else bytes(payload)
    plan = (await parts.redriver.redrive(_parse(letter_id), client_of(request), edit)).plan
    links = letter_links(_parse(letter_id), plan.object_id, plan.task_id)
    answer = schemas.RedriveAccepted(letter_id, "REDRIVEN", plan.redrive, plan.task_id, plan.object_id, links)
    return json_response(answer, 202)


@router.delete(
    "/{letter_id}",
    response_model=schemas.Discarded,
    responses=documented_problems(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=documented_body(schemas.DiscardWanted, "The reason, if the query does not say it"),
    summary="Discard a dead letter",
)
async def discard_letter(
    letter_id: str,
    request: Request,
    parts: Parts,
    reason: Annotated[
        str | None, Query(min_length=1, max_length=1_000, description="Why the letter is discarded")
    ] = None,
) -> Response:
    """Mark the letter as discarded. Its bytes stay on the topic."""
    parsed = _parse(letter_id)
    asked = await read_struct(request, parts.settings.max_body_bytes, schemas.DiscardWanted)
    why = reason or asked.reason
    if why is None:
        raise problems.invalid([{"detail": "A reason is required, in the body or in the query", "pointer": "#/reason"}])
    await parts.redriver.discard(parsed, client_of(request), why)
    return json_response(schemas.Discarded(letter_id, "DISCARDED", why, letter_links(parsed, None)))


def _parse(letter_id: str) -> LetterId:
    parsed = parse_letter_id(letter_id)
    if parsed is None:
        raise _unknown(letter_id)
    return parsed


def client_of(request: Request) -> str:
    """Return whose act it is: the address of the client."""
    return "" if request.client is None else request.client.host


def _unknown(letter_id: str) -> problems.Problem:
    return problems.not_found(f"there is no dead letter {letter_id}")
