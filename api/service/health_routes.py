"""Probes: the status code is the whole contract (200, else 503); `?verbose` explains it to people."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from api.dependencies import Collaborators, Parts, documented_problems, json_response, now_ms
from api.server import problems
from api.server.documented import Documented

router = APIRouter(tags=["health"])

_MAX_SILENCE_MS = 10_000
_NO_STORE = {"Cache-Control": "no-store"}
Verbose = Annotated[str | None, Query(alias="verbose", description="List each check")]


class Check(Documented, frozen=True):
    """One health check."""

    name: str
    ok: bool
    detail: str


class Health(Documented, frozen=True, omit_defaults=True):
    """Health of the process. `checks` only with `?verbose`; `namespace` only if EBS_NAMESPACE is set."""

    status: Literal["ok"]
    namespace: str = ""
    checks: list[Check] | None = None


@router.get(
    "/livez",
    response_model=Health,
    responses=documented_problems(503),
    summary="Liveness probe",
)
async def read_liveness(parts: Parts, _verbose: Verbose = None) -> Response:
    """Return 200 while the event loop runs and the read view makes progress. This does not depend on the broker."""
    verdict = parts.why_not_live()
    if verdict is not None:
        problem = problems.unavailable("standing-still", verdict)
        problem.headers |= _NO_STORE
        raise problem
    return json_response(Health("ok"), headers=_NO_STORE)


@router.get(
    "/readyz",
    response_model=Health,
    responses=documented_problems(503),
    summary="Readiness probe",
)
async def read_readiness(parts: Parts, verbose: Verbose = None) -> Response:
    """Return 200 when the broker is reachable, the topics are valid and the read view has caught up once."""
    checks = [_check_broker(parts), _check_view(parts)]
    if not all(check.ok for check in checks):
        reasons = [check.detail for check in checks if not check.ok]
        members = {"reasons": reasons, "checks": checks} if verbose is not None else {"reasons": reasons}
        problem = problems.unavailable("not-ready", "; ".join(reasons), members)
        problem.headers |= _NO_STORE
        raise problem
    body = Health("ok", parts.settings.namespace, None if verbose is None else checks)
    return json_response(body, headers=_NO_STORE)


def _check_broker(parts: Collaborators) -> Check:
    trouble = parts.publisher.trouble()
    heard_at_ms = parts.view.progress.heard_at_ms
    if trouble is None and heard_at_ms is not None:
        silence_ms = now_ms(parts) - heard_at_ms
        if silence_ms > _MAX_SILENCE_MS:
            trouble = f"the Kafka broker has not answered for {silence_ms // 1_000} s"
    detail = trouble or "the broker is reachable and its topics are right"
    return Check("broker", trouble is None, detail)


def _check_view(parts: Collaborators) -> Check:
    view = parts.view
    lag = view.progress.lag_records
    if view.trouble:
        return Check("view", ok=False, detail=view.trouble)
    refused = "; ".join(view.refused.values())
    if view.caught_up_once:
        return Check("view", ok=True, detail=refused or f"caught up, {lag} records behind now")
    if refused:
        how_far = refused
    elif lag is not None:
        how_far = f"{lag} records to go"
    else:
        how_far = "not started" if view.progress.heard_at_ms is None else "the ledger's rows come first"
    return Check("view", ok=False, detail=f"the read view has not caught up yet ({how_far})")
