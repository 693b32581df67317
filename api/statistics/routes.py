"""Totals and windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response

from api.dependencies import Parts, documented_problems, json_response, now_ms
from api.server import problems
from api.server.schemas import Kind  # noqa: TC001  # FastAPI reads annotations when it runs
from api.statistics import schemas
from api.view.answers import describe_view
from api.view.longer_windows import SIZES_MS
from app.rules.counts import describe_totals, describe_window

if TYPE_CHECKING:
    from api.view.view import View

router = APIRouter(prefix="/statistics", tags=["statistics"])

_SIZES_S = tuple(size_ms // 1_000 for size_ms in SIZES_MS)
_DEFAULT_LIMIT = 60
_MAX_LIMIT = 1_000


@router.get(
    "",
    response_model=schemas.StatisticsAnswer,
    responses=documented_problems(503),
    summary="Get the totals",
)
async def read_statistics(parts: Parts) -> Response:
    """Return the totals since the start, of all kinds and by kind, and how far they are behind the topics."""
    total, by_kind = describe_totals(parts.view.statistics.totals())
    return json_response({**total, "kinds": by_kind, "view": describe_view(parts.view, now_ms(parts))})


@router.get(
    "/windows",
    response_model=schemas.WindowList,
    responses=documented_problems(422, 503),
    summary="List tumbling windows, newest first",
)
async def read_windows(
    parts: Parts,
    kind: Annotated[Kind | None, Query(description="Only this kind. Default: one window for each kind")] = None,
    limit: Annotated[int, Query(ge=1, le=_MAX_LIMIT, description="Maximum number of windows")] = _DEFAULT_LIMIT,
    size: Annotated[int, Query(description="Length of a window in seconds: 10, 60 or 3600")] = _SIZES_S[0],
) -> Response:
    """Return windows of event time. The newest windows still change."""
    if size not in _SIZES_S:
        detail = f"Input should be {' or '.join(map(str, _SIZES_S))}"
        raise problems.invalid([{"detail": detail, "parameter": "size"}])
    view: View = parts.view
    windows = await view.statistics.windows_of(size * 1_000, kind, limit)
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
