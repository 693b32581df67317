"""The retry tiers: how many wait on each, and when the next one is due, as the workers know it."""

from __future__ import annotations

from typing import Any

from api.dashboard.site import Asked, Page


async def _load(asked: Asked) -> dict[str, Any]:
    answer = await asked.inside.get("/api/workers", role="processing")
    tiers: dict[str, dict[str, Any]] = {}
    for worker in answer["workers"]:
        for told in worker["retry_tiers"]:
            tier = tiers.setdefault(told["topic"], {"topic": told["topic"], "waiting_count": 0, "next_due_at_ms": None})
            tier["waiting_count"] += told["waiting_count"]
            dues = [due for due in (tier["next_due_at_ms"], told["next_due_at_ms"]) if due is not None]
            tier["next_due_at_ms"] = min(dues, default=None)
    statistics = asked.health["statistics"]
    data = {
        "tiers": list(tiers.values()),
        "tasks_waiting_retry": statistics.get("tasks_waiting_retry"),
        "tasks_retried": statistics.get("tasks_retried"),
        "tasks_failed": statistics.get("tasks_failed"),
        "workers_count": len(answer["workers"]),
        "view": answer["view"],
    }
    return {"data": data, **data, "most": max((tier["waiting_count"] for tier in tiers.values()), default=0)}


PAGE = Page("/retries", "retries.html", "Retries", _load)
