"""The form that submits one object or many."""

from __future__ import annotations

from typing import Any

from api.dashboard.site import Asked, Page
from api.submit import schemas
from app.events import CALLBACK_KIND, MAX_TASKS


async def _load(asked: Asked) -> dict[str, Any]:
    # Callbacks are seen as a kind, but no object may have it.
    kinds = [kind for kind in asked.kinds if kind != CALLBACK_KIND]
    limits = {"max_count": schemas.MAX_COUNT, "max_tasks": MAX_TASKS, "kinds": kinds}
    return {"data": limits, "limits": limits}


PAGE = Page("/submit", "submit.html", "Submit", _load)
