"""Commands of operators: pauses, rates, concurrency, drains (see `app.rules.commands`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from msgspec import UNSET

from api.control import schemas
from api.control.answers import put, revoke
from api.control.worker_routes import living_workers
from api.dependencies import Parts, documented_body, documented_problems, json_response, now_ms
from api.server import problems
from api.server.schemas import Kind
from api.submit.body import read_struct
from api.view.answers import describe_view
from app.names import PROCESSING
from app.rules.commands import CommandKey, Drain, Family, LimitKind, LimitRate, Pause, SetConcurrency
from app.settings.project import project_of

if TYPE_CHECKING:
    from api.server.documented import RequestBody

router = APIRouter(prefix="/control", tags=["control"])

_NO_LIMIT = "give concurrency or per_key, or both; DELETE removes the limits"

KindInPath = Annotated[Kind, Path(description="The kind of object")]
WorkerInPath = Annotated[schemas.Worker, Path(description="The worker's name in GET /api/workers")]


def _command(
    body: type[RequestBody] | None = None,
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


@router.get(
    "", response_model=schemas.ControlAnswer, responses=documented_problems(503), summary="Get the commands in force"
)
async def read_control(parts: Parts) -> Response:
    """Return all commands that any API process acknowledged before this request, and the limits of the project."""
    await parts.view.catch_up(parts.view.names.control)
    in_force = parts.view.control.state.describe()
    project = project_of(parts.settings)
    limits = {} if project is None else {kind: one._asdict() for kind, one in project.limits.items()}
    return json_response({**in_force, "project_limits": limits, "view": describe_view(parts.view, now_ms(parts))})


@router.post(
    "/pause",
    summary="Pause all kinds, or one kind",
    **_command(schemas.PauseAsked, "Left out: all kinds, without a reason"),
)
async def pause(request: Request, parts: Parts) -> Response:
    """Start no more tasks; running tasks finish, and the others wait. A pause survives restarts of all processes."""
    asked = await read_struct(request, parts.settings.max_body_bytes, schemas.PauseAsked)
    return await put(parts, CommandKey(Family.PAUSE, asked.kind or ""), Pause(now_ms(parts), asked.reason))


@router.post(
    "/resume",
    summary="Resume all kinds, or one kind",
    **_command(schemas.ResumeAsked, "Left out: the pause of all kinds"),
)
async def resume(request: Request, parts: Parts) -> Response:
    """Undo the pause of all kinds, or of one kind. Each is undone separately; `control` shows which remain."""
    asked = await read_struct(request, parts.settings.max_body_bytes, schemas.ResumeAsked)
    return await revoke(parts, CommandKey(Family.PAUSE, asked.kind or ""))


@router.put(
    "/rate/{kind}",
    summary="Limit how many tasks of a kind start per second",
    **_command(schemas.RateAsked, "The limit", required=True),
)
async def limit_rate(kind: KindInPath, request: Request, parts: Parts) -> Response:
    """Set the limit of the whole system. Each worker gets the share that matches its share of the partitions."""
    asked = await read_struct(request, parts.settings.max_body_bytes, schemas.RateAsked)
    return await put(parts, CommandKey(Family.RATE, kind), LimitRate(kind, asked.per_s, now_ms(parts)))


@router.delete(
    "/rate/{kind}",
    summary="Remove the limit of a kind",
    **_command(),
)
async def lift_rate(kind: KindInPath, parts: Parts) -> Response:
    """Remove the limit. If there was none, the answer is the same."""
    return await revoke(parts, CommandKey(Family.RATE, kind))


@router.put(
    "/limits/{kind}",
    summary="Limit how many tasks of a kind run at once",
    **_command(schemas.LimitsAsked, "The limits", required=True),
)
async def limit_kind(kind: KindInPath, request: Request, parts: Parts) -> Response:
    """Set both limits of the whole system; they override those of the project. A limit that is left out is removed.

    If more tasks run than the new number, they finish, and no others start.
    """
    asked = await read_struct(request, parts.settings.max_body_bytes, schemas.LimitsAsked)
    if asked.concurrency is None and asked.per_key is None:
        raise problems.invalid([{"detail": _NO_LIMIT, "pointer": "#"}])
    limit = LimitKind(kind, asked.concurrency or UNSET, asked.per_key or UNSET, now_ms(parts))
    return await put(parts, CommandKey(Family.LIMIT, kind), limit)


@router.delete(
    "/limits/{kind}",
    summary="Go back to the limits of the project",
    **_command(),
)
async def lift_limits(kind: KindInPath, parts: Parts) -> Response:
    """Remove both limits. If there were none, the answer is the same."""
    return await revoke(parts, CommandKey(Family.LIMIT, kind))


@router.put(
    "/concurrency",
    summary="Set how many tasks a worker runs at once",
    **_command(schemas.ConcurrencyAsked, "How many tasks at once", required=True),
)
async def set_concurrency(request: Request, parts: Parts) -> Response:
    """Override EBS_CONCURRENCY. If more tasks are running than the new number, they finish, and no others start."""
    asked = await read_struct(request, parts.settings.max_body_bytes, schemas.ConcurrencyAsked)
    command_key = CommandKey(Family.CONCURRENCY, asked.worker or "")
    return await put(parts, command_key, SetConcurrency(asked.count, now_ms(parts)))


@router.delete(
    "/concurrency",
    summary="Go back to EBS_CONCURRENCY",
    **_command(),
)
async def reset_concurrency(
    parts: Parts, worker: Annotated[schemas.Worker | None, Query(description="Default: all workers")] = None
) -> Response:
    """Remove the override. If there was none, the answer is the same."""
    return await revoke(parts, CommandKey(Family.CONCURRENCY, worker or ""))


@router.post(
    "/drain/{worker}",
    summary="Drain a worker",
    **_command(problems=(404, 409)),
)
async def drain(worker: WorkerInPath, parts: Parts) -> Response:
    """Start no more tasks on this worker; its running tasks finish. A restart does not undo the drain.

    After at most EBS_DRAIN_S other workers take over its partitions. If there are none, its tasks wait.
    """
    living = await living_workers(parts)
    roles = {one.role for one in living if one.worker == worker}
    if not roles:
        names = ", ".join(one.worker for one in living if one.role == PROCESSING) or "none"
        raise problems.not_found(f"no worker {worker} is running; running processing workers: {names}")
    if PROCESSING not in roles:
        detail = f"{worker} has the role {', '.join(sorted(roles))}: only a worker that processes tasks can be drained"
        raise problems.conflict("not-processing", detail)
    return await put(parts, CommandKey(Family.DRAIN, worker), Drain(now_ms(parts)))


@router.delete(
    "/drain/{worker}",
    summary="Undo the drain of a worker",
    **_command(),
)
async def end_drain(worker: WorkerInPath, parts: Parts) -> Response:
    """Undo the drain. If the worker was not drained or does not run, the answer is the same."""
    return await revoke(parts, CommandKey(Family.DRAIN, worker))
