"""The audit: whether the statistics add up, from the statistics themselves.

Every partition's total is one row, which a step changes once and commits as a whole; in each the law holds, whatever
the order of events (see `app.rules.tally`). So it holds in any sum of them, however far behind the view is, and an
imbalance that is not 0 is never a matter of waiting.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.dependencies import Parts, documented_problems, json_response, now_ms
from api.statistics.schemas import AuditAnswer
from api.view.answers import describe_view
from app.rules.counts import describe_audits

router = APIRouter(prefix="/statistics/audit", tags=["statistics"])


@router.get("", response_model=AuditAnswer, responses=documented_problems(503), summary="Audit the statistics")
async def read_audit(parts: Parts) -> Response:
    """Return how many tasks were created, how many are in each state, and whether the sum is equal; also by kind."""
    total, by_kind = describe_audits(parts.view.statistics.totals())
    return json_response({**total, "kinds": by_kind, "view": describe_view(parts.view, now_ms(parts))})
