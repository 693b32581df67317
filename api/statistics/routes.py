"""Totals and windows."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from api.control.answers import now_ms
from api.dependencies import Parts, documented_problems, json_response
from api.server import problems, schemas
from api.view.answers import describe_view
from api.view.longer_windows import SIZES_MS
from api.view.view import View, ViewBehind
from app.rules.counts import Counts, add_counts, describe_counts, describe_window

router = APIRouter(prefix="/statistics", tags=["statistics"])

_SIZES_S = tuple(size_ms // 1_000 for size_ms in SIZES_MS)
_DEFAULT_LIMIT = 60
_MAX_LIMIT = 1_000


@router.get(
    "",
    response_model=schemas.StatisticsAnswer,
    responses=documented_problems(503),
    summary="Totals of all time",
)
async def read_statistics(parts: Parts) -> Response:
    """Answer with the totals over all kinds and by kind, and how far behind the topics they are."""
    try:
        kinds = parts.view.totals()
    except ViewBehind as error:
        raise _behind(error) from error
    total = Counts()
    for counts in kinds.values():
        add_counts(total, counts)
    answer = {
        **_figures_of(total),
        "kinds": {kind: _figures_of(kinds[kind]) for kind in sorted(kinds)},
        "view": describe_view(parts.view, now_ms(parts)),
    }
    return json_response(answer)


@router.get(
    "/windows",
    response_model=schemas.WindowList,
    responses=documented_problems(422, 503),
    summary="Tumbling windows, newest first",
)
async def read_windows(
    parts: Parts,
    kind: Annotated[schemas.Kind | None, Query(description="Only this kind; left out: all, a window each")] = None,
    limit: Annotated[int, Query(ge=1, le=_MAX_LIMIT, description="At most so many windows")] = _DEFAULT_LIMIT,
    size: Annotated[int, Query(description="Length in seconds: 10, 60 or 3600")] = _SIZES_S[0],
) -> Response:
    """Answer with the windows by event time; the newest ones still change."""
    if size not in _SIZES_S:
        detail = f"Input should be {' or '.join(map(str, _SIZES_S))}"
        raise problems.invalid([{"detail": detail, "parameter": "size"}])
    view: View = parts.view
    try:
        windows = await view.windows_of(size * 1_000, kind, limit)
    except ViewBehind as error:
        raise _behind(error) from error
    described = [
        {
            "start_ms": key.start_ms,
            "end_ms": key.end_ms,
            "size_s": size,
            "kind": key.kind,
            **describe_window(counts),
        }
        for key, counts in windows
    ]
    return json_response({"windows": described, "view": describe_view(view, now_ms(parts))})


def _figures_of(counts: Counts) -> dict[str, Any]:
    return {**describe_counts(counts), "imbalance": counts.imbalance}


def _behind(error: ViewBehind) -> problems.Problem:
    return problems.unavailable("view-behind", str(error))
