"""Probes: the status code is the whole contract (200, else 503); `?verbose` explains it to people."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from api.dependencies import Collaborators, Parts, documented_problems, json_response, now_ms
from api.server import problems, schemas

router = APIRouter(tags=["health"])

_MAX_SILENCE_MS = 10_000
_NO_STORE = {"Cache-Control": "no-store"}
Verbose = Annotated[str | None, Query(alias="verbose", description="List each check")]


@router.get(
    "/livez",
    response_model=schemas.Health,
    responses=documented_problems(503),
    summary="Liveness probe",
)
async def read_liveness(parts: Parts, _verbose: Verbose = None) -> Response:
    """Return 200 while the event loop runs and the read view makes progress. This does not depend on the broker."""
    verdict = parts.standstill()
    if verdict is not None:
        problem = problems.unavailable("standing-still", verdict)
        problem.headers |= _NO_STORE
        raise problem
    return json_response({"status": "ok"}, headers=_NO_STORE)


@router.get(
    "/readyz",
    response_model=schemas.Health,
    responses=documented_problems(503),
    summary="Readiness probe",
)
async def read_readiness(parts: Parts, verbose: Verbose = None) -> Response:
    """Return 200 when the broker is reachable, the topics are valid and the read view has caught up once."""
    checks = [_check_broker(parts), _check_view(parts)]
    if not all(check["ok"] for check in checks):
        reasons = [check["detail"] for check in checks if not check["ok"]]
        members = {"reasons": reasons, "checks": checks} if verbose is not None else {"reasons": reasons}
        problem = problems.unavailable("not-ready", "; ".join(map(str, reasons)), members)
        problem.headers |= _NO_STORE
        raise problem
    body: dict[str, Any] = {"status": "ok"}
    if parts.settings.namespace:
        body["namespace"] = parts.settings.namespace
    if verbose is not None:
        body["checks"] = checks
    return json_response(body, headers=_NO_STORE)


def _check_broker(parts: Collaborators) -> dict[str, str | bool]:
    trouble = parts.publisher.trouble()
    heard_at_ms = parts.view.progress.heard_at_ms
    if trouble is None and heard_at_ms is not None:
        silence_ms = now_ms(parts) - heard_at_ms
        if silence_ms > _MAX_SILENCE_MS:
            trouble = f"the Kafka broker has not answered for {silence_ms // 1_000} s"
    detail = trouble or "the broker is reachable and its topics are right"
    return {"name": "broker", "ok": trouble is None, "detail": detail}


def _check_view(parts: Collaborators) -> dict[str, str | bool]:
    view = parts.view
    lag = view.progress.lag_records
    if view.trouble:
        return {"name": "view", "ok": False, "detail": view.trouble}
    refused = "; ".join(view.refused.values())
    if view.caught_up_once:
        return {"name": "view", "ok": True, "detail": refused or f"caught up, {lag} records behind now"}
    if refused:
        how_far = refused
    elif lag is not None:
        how_far = f"{lag} records to go"
    else:
        how_far = "not started" if view.progress.heard_at_ms is None else "the ledger's rows come first"
    return {"name": "view", "ok": False, "detail": f"the read view has not caught up yet ({how_far})"}
