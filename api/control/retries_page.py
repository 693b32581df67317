"""The retry tiers: how many wait on each, and when the next one is due, as the workers know it."""

from __future__ import annotations

from typing import Any

import msgspec

from api.dashboard.site import Asked, Page
from app.rules.worker_heartbeats import RetryTier, tiers_of


async def _load(asked: Asked) -> dict[str, Any]:
    answer = await asked.inside.get("/api/workers", role="processing")
    told = [tier for worker in answer["workers"] for tier in worker["retry_tiers"]]
    tiers: list[dict[str, Any]] = msgspec.to_builtins(tiers_of(msgspec.convert(told, list[RetryTier])))
    statistics = asked.health["statistics"]
    data = {
        "tiers": tiers,
        "tasks_waiting_retry": statistics.get("tasks_waiting_retry"),
        "tasks_retried": statistics.get("tasks_retried"),
        "tasks_failed": statistics.get("tasks_failed"),
        "workers_count": len(answer["workers"]),
        "view": answer["view"],
    }
    return {"data": data, **data, "most": max((tier["waiting_count"] for tier in tiers), default=0)}


PAGE = Page("/retries", "retries.html", "Retries", _load)
