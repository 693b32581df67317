"""What waits: how many tasks, why, and when the next one is due, as the workers know it."""

from __future__ import annotations

from typing import Any

import msgspec

from api.dashboard.site import Asked, Page
from app.rules.worker_heartbeats import WaitingCount, waiting_of


async def _load(asked: Asked) -> dict[str, Any]:
    answer = await asked.inside.get("/api/workers", role="processing")
    told = [one for worker in answer["workers"] for one in worker["waiting"]]
    waiting: list[dict[str, Any]] = msgspec.to_builtins(waiting_of(msgspec.convert(told, list[WaitingCount])))
    statistics = asked.health["statistics"]
    data = {
        "waiting": waiting,
        "tasks_waiting_retry": statistics.get("tasks_waiting_retry"),
        "tasks_retried": statistics.get("tasks_retried"),
        "tasks_failed": statistics.get("tasks_failed"),
        "workers_count": len(answer["workers"]),
        "view": answer["view"],
    }
    return {"data": data, **data, "most": max((one["waiting_count"] for one in waiting), default=0)}


PAGE = Page("/waiting", "waiting.html", "Waiting", _load)
