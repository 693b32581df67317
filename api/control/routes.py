"""What operators rule: pauses, rates, concurrency, drains (see `app.rules.commands`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from api.control import schemas as schemas
from api.control.answers import now_ms, put, revoke
from api.control.worker_routes import living_workers
from api.dependencies import Parts, documented_body, documented_problems, json_response
from api.server import problems
from api.server.schemas import Kind
from api.submit.body import read_body
from api.view.answers import describe_view
from api.view.view import ViewBehind
from app.names import PROCESSING
from app.rules.commands import Drain, Family, LimitRate, Pause, Place, SetConcurrency

if TYPE_CHECKING:
    from pydantic import BaseModel

router = APIRouter(prefix="/control", tags=["control"])

KindInPath = Annotated[Kind, Path(description="A kind of objects")]
WorkerInPath = Annotated[schemas.Worker, Path(description="A worker, as GET /api/workers names it")]


def _command(
    body: type[BaseModel] | None = None,
    description: str = "",
    *,
    required: bool = False,
    problems: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Return how a command's route answers and is documented."""
    of_body = () if body is None else (400, 413, 415)
    return {
        "status_code": 202,
        "response_model": schemas.CommandAccepted,
        "responses": documented_problems(*sorted((*problems, *of_body, 422, 503))),
        "openapi_extra": None if body is None else documented_body(body, description, required=required),
    }


@router.get("", response_model=schemas.ControlAnswer, responses=documented_problems(503), summary="What is in force?")
async def read_control(parts: Parts) -> Response:
    """Answer with everything that was acknowledged before the question, whichever process took it."""
    try:
        await parts.view.catch_up(parts.view.names.control)
    except ViewBehind as error:
        raise problems.unavailable("view-behind", str(error)) from error
    view = describe_view(parts.view, now_ms(parts))
    return json_response({**parts.view.control.state.describe(), "view": view})


@router.post(
    "/pause",
    summary="Let no task start, or none of a kind",
    **_command(schemas.PauseAsked, "Left out: all kinds, without a reason"),
)
async def pause(request: Request, parts: Parts) -> Response:
    """Let running tasks finish and all others wait where they are; a pause outlives every process."""
    asked = await read_body(request, parts.settings.max_body_bytes, schemas.PauseAsked)
    return await put(parts, Place(Family.PAUSE, asked.kind or ""), Pause(now_ms(parts), asked.reason))


@router.post(
    "/resume",
    summary="Undo a pause",
    **_command(schemas.ResumeAsked, "Left out: the pause of all kinds"),
)
async def resume(request: Request, parts: Parts) -> Response:
    """Undo the pause of all, or that of a kind: each by itself; `control` says which are left."""
    asked = await read_body(request, parts.settings.max_body_bytes, schemas.ResumeAsked)
    return await revoke(parts, Place(Family.PAUSE, asked.kind or ""))


@router.put(
    "/rate/{kind}",
    summary="Limit how many tasks of a kind start a second",
    **_command(schemas.RateAsked, "The limit", required=True),
)
async def limit_rate(kind: KindInPath, request: Request, parts: Parts) -> Response:
    """Limit the whole system; each worker has the share of it that its partitions are of all."""
    asked = await read_body(request, parts.settings.max_body_bytes, schemas.RateAsked)
    return await put(parts, Place(Family.RATE, kind), LimitRate(kind, asked.per_s, now_ms(parts)))


@router.delete(
    "/rate/{kind}",
    summary="Lift a kind's limit",
    **_command(),
)
async def lift_rate(kind: KindInPath, parts: Parts) -> Response:
    """Let tasks of a kind start as they come; it is no error if there was no limit."""
    return await revoke(parts, Place(Family.RATE, kind))


@router.put(
    "/concurrency",
    summary="Change how many tasks a worker works on at once",
    **_command(schemas.ConcurrencyAsked, "How many tasks at once", required=True),
)
async def set_concurrency(request: Request, parts: Parts) -> Response:
    """Win over EBS_CONCURRENCY; tasks beyond a smaller number finish, and no others start."""
    asked = await read_body(request, parts.settings.max_body_bytes, schemas.ConcurrencyAsked)
    place = Place(Family.CONCURRENCY, asked.worker or "")
    return await put(parts, place, SetConcurrency(asked.count, now_ms(parts)))


@router.delete(
    "/concurrency",
    summary="Go back to EBS_CONCURRENCY",
    **_command(),
)
async def reset_concurrency(
    parts: Parts, worker: Annotated[schemas.Worker | None, Query(description="Left out: the number for all")] = None
) -> Response:
    """Let the setting of each worker hold again; it is no error if nothing else was said."""
    return await revoke(parts, Place(Family.CONCURRENCY, worker or ""))


@router.post(
    "/drain/{worker}",
    summary="Let one worker start nothing any more",
    **_command(problems=(404, 409)),
)
async def drain(worker: WorkerInPath, parts: Parts) -> Response:
    """Let what it works on finish; it stays drained, started anew too, until this is undone.

    After EBS_DRAIN_S at most the other workers take over its partitions; the tasks of the only worker wait.
    """
    living = await living_workers(parts)
    roles = {one.role for one in living if one.worker == worker}
    if not roles:
        names = ", ".join(one.worker for one in living if one.role == PROCESSING) or "none"
        raise problems.not_found(f"no worker {worker} lives; of those that process tasks there are: {names}")
    if PROCESSING not in roles:
        detail = f"{worker} has the role {', '.join(sorted(roles))}: only a worker that processes tasks can be drained"
        raise problems.conflict("not-processing", detail)
    return await put(parts, Place(Family.DRAIN, worker), Drain(now_ms(parts)))


@router.delete(
    "/drain/{worker}",
    summary="Let a drained worker work again",
    **_command(),
)
async def end_drain(worker: WorkerInPath, parts: Parts) -> Response:
    """Undo a drain; it is no error if the worker was not drained, or is not alive."""
    return await revoke(parts, Place(Family.DRAIN, worker))
