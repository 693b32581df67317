"""What is in force, and the forms that change it."""

from __future__ import annotations

from typing import Any

from api.dashboard.site import Asked, Page
from api.statistics.windows_page import kinds_of


async def _load(asked: Asked) -> dict[str, Any]:
    answer = await asked.inside.get("/api/control")
    return {"data": answer, "control": answer, "kinds": kinds_of(asked)}


PAGE = Page("/control", "control.html", "Control", _load)
