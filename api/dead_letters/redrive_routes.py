"""Redrives of many dead letters: start one, follow it, cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from api.dead_letters import schemas
from api.dead_letters.answers import PATH, describe_run
from api.dead_letters.routes import client_of
from api.dependencies import Parts, documented_body, documented_problems, json_response
from api.redrive.bulk_redrive import RunUnderWay
from api.redrive.redrive import written
from api.server import problems
from api.submit.body import read_struct
from app.rules.letter_filter import CONDITIONS, LetterFilter, filter_from

if TYPE_CHECKING:
    from app.rules.redrive_runs import RunProgress

router = APIRouter(prefix="/dead-letters", tags=["dead letters"])


@router.get(
    "/redrives",
    response_model=schemas.RunList,
    summary="List the last redrives by filter",
)
async def read_runs(parts: Parts) -> Response:
    """Return the redrives that any API process has run."""
    return json_response(schemas.RunList([describe_run(run) for run in parts.bulk_redriver.runs()]))


@router.get(
    "/redrives/{run_id}",
    response_model=schemas.RunAnswer,
    responses=documented_problems(404, 503),
    summary="Get the progress of a redrive by filter",
)
async def read_run(run_id: str, parts: Parts) -> Response:
    """Return its counts. Any API process can answer, not only the one that runs it."""
    run = parts.bulk_redriver.find(run_id)
    if run is None:
        await parts.redriver.catch_up()
        run = parts.bulk_redriver.find(run_id)
    return json_response(describe_run(_known(run, run_id)))


@router.delete(
    "/redrives/{run_id}",
    status_code=202,
    response_model=schemas.RunAnswer,
    responses=documented_problems(404, 503),
    summary="Cancel a redrive by filter",
)
async def cancel_run(run_id: str, parts: Parts) -> Response:
    """Stop the redrive after its current chunk, in whichever API process it runs. Redriven letters stay redriven."""
    await parts.redriver.catch_up()
    with written():
        run = await parts.bulk_redriver.cancel(run_id)
    return json_response(describe_run(_known(run, run_id)), 202)


@router.post(
    "/redrive",
    status_code=202,
    response_model=schemas.RunAnswer,
    responses={
        200: {"model": schemas.RedriveCount, "description": "With `dry_run`"},
        202: {"headers": {"Location": {"description": "Its progress", "schema": {"type": "string"}}}},
        **documented_problems(400, 409, 413, 415, 422, 503),
    },
    openapi_extra=documented_body(schemas.RedriveWanted, "Which letters; conditions hold together", required=True),
    summary="Redrive all dead letters that match a filter",
)
async def redrive_letters(request: Request, parts: Parts) -> Response:
    """Start a redrive in the background; only one runs at a time. It leaves out letters that arrive after its start."""
    asked = await read_struct(request, parts.settings.max_body_bytes, schemas.RedriveWanted)
    wanted = filter_from(asked)
    if wanted == LetterFilter() and not asked.all:
        detail = f'Name what to redrive ({", ".join(CONDITIONS)}), or say "all": true'
        raise problems.invalid([{"detail": detail, "pointer": "#"}])
    await parts.redriver.catch_up()
    if asked.dry_run:
        return json_response({"dry_run": True, **await parts.bulk_redriver.count(wanted)})
    try:
        with written():
            run = await parts.bulk_redriver.start(wanted, asked.rate_per_s, client_of(request))
    except RunUnderWay as error:
        run_id = error.progress.run_id
        members = {"id": run_id, "links": {"redrive": f"{PATH}/redrives/{run_id}"}}
        raise problems.conflict("redrive-under-way", str(error), members) from error
    answer = describe_run(run)
    return json_response(answer, 202, {"Location": answer.links.self})


def _known(run: RunProgress | None, run_id: str) -> RunProgress:
    if run is None:
        raise problems.not_found(f"there is no redrive {run_id} among the last ones")
    return run
