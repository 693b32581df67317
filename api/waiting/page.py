"""The page of waiting tasks: how many of each kind wait, why, and each task with its due time."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

from api.dashboard.site import Asked, Page
from app.rules.waiting_rows import TIMED_REASONS

CONDITIONS = ("kind", "reason", "object_id")
_PATH = "/api/waiting"
_LIMIT = 50
_SHOWN_GROUPS = 100


async def _load(asked: Asked) -> dict[str, Any]:
    wanted = {name: asked.query[name] for name in CONDITIONS if asked.query.get(name)}
    cursor = asked.query.get("cursor")
    counts, found, workers = await asyncio.gather(
        asked.inside.get(f"{_PATH}/counts", **wanted),
        asked.inside.get(_PATH, limit=_LIMIT, cursor=cursor, **wanted),
        asked.inside.get("/api/workers", role="processing"),
    )
    following = found["next_cursor"]
    groups = counts["groups"]
    return {
        "data": found,
        "total": counts["total"],
        "groups": groups[:_SHOWN_GROUPS],
        "hidden_groups": max(0, len(groups) - _SHOWN_GROUPS),
        "startable_count": sum(one["waiting_count"] for one in groups if one["reason"] in TIMED_REASONS),
        "timed": sorted(TIMED_REASONS),
        "tasks": found["tasks"],
        "wanted": wanted,
        "kinds": sorted({*asked.kinds, *(one["kind"] for one in groups)}),
        "workers_count": len(workers["workers"]),
        "first_page": None if cursor is None else f"/waiting?{urlencode(wanted)}",
        "next_page": None if following is None else f"/waiting?{urlencode({**wanted, 'cursor': following})}",
    }


PAGE = Page("/waiting", "waiting.html", "Waiting", _load)
