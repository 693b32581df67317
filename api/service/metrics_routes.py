"""`/metrics` for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.dependencies import Parts  # noqa: TC001  # FastAPI reads the annotation
from app.telemetry.metrics import CONTENT_TYPE, render

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response, summary="Metrics of the whole system, for Prometheus")
async def read_metrics(parts: Parts) -> Response:
    """Answer with what the statistics say, as far as the read view has them; workers have `/metrics` of their own."""
    await parts.metrics.system.read_dead_letters()
    page = render(parts.metrics.registry)
    return Response(page, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
