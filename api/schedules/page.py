"""The schedules with their next instants, and the form that sets one."""

from __future__ import annotations

from typing import Any

from api.dashboard.site import Asked, Page
from app.events import CALLBACK_KIND

_LIMIT = 50
_EVERY_S = 5.0
"""Less often than other pages: each answer computes five instants of each schedule."""


async def _load(asked: Asked) -> dict[str, Any]:
    cursor = asked.query.get("cursor")
    answer = await asked.inside.get("/api/schedules", limit=_LIMIT, cursor=cursor)
    following = answer["next_cursor"]
    return {
        "data": answer,
        "schedules": answer["schedules"],
        # Callbacks are listed as a kind, but no object may have it.
        "kinds": [kind for kind in asked.kinds if kind != CALLBACK_KIND],
        "first_page": None if not cursor else "/schedules",
        "next_page": None if following is None else f"/schedules?cursor={following}",
    }


PAGE = Page("/schedules", "schedules.html", "Schedules", _load, every_s=lambda _query: _EVERY_S)
