"""The form that submits one object or many."""

from __future__ import annotations

from typing import Any

from api.dashboard.site import Asked, Page
from api.submit import schemas
from app.events import MAX_TASKS


async def _load(asked: Asked) -> dict[str, Any]:
    limits = {"max_count": schemas.MAX_COUNT, "max_tasks": MAX_TASKS, "kinds": asked.kinds}
    return {"data": limits, "limits": limits}


PAGE = Page("/submit", "submit.html", "Submit", _load)
