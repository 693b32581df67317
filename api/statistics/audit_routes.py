"""The audit: whether the statistics add up, from the statistics themselves.

Every partition's total is one row, which a step changes once and commits as a whole; in each the law holds, whatever
the order of events (see `app.rules.tally`). So it holds in any sum of them, however far behind the view is, and an
imbalance that is not 0 is never a matter of waiting.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.control.answers import now_ms
from api.dependencies import Parts, documented_problems, json_response
from api.server import problems
from api.statistics.audit_schemas import AuditAnswer
from api.view.answers import describe_view
from api.view.view import ViewBehind
from app.rules.counts import Counts, add_counts, describe_audit

router = APIRouter(prefix="/statistics/audit", tags=["statistics"])


@router.get("", response_model=AuditAnswer, responses=documented_problems(503), summary="Do the statistics add up?")
async def read_audit(parts: Parts) -> Response:
    """Answer with both sides of the law, over all kinds and by kind, and how far behind the topics they are."""
    try:
        kinds = parts.view.totals()
    except ViewBehind as error:
        raise problems.unavailable("view-behind", str(error)) from error
    total = Counts()
    for counts in kinds.values():
        add_counts(total, counts)
    by_kind = {kind: describe_audit(kinds[kind]) for kind in sorted(kinds)}
    answer = {
        **describe_audit(total),
        # One kind's surplus must not hide another's loss.
        "holds": all(told["holds"] for told in by_kind.values()),
        "kinds": by_kind,
        "view": describe_view(parts.view, now_ms(parts)),
    }
    return json_response(answer)
