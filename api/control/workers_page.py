"""Who works: state, in flight, last progress, and the drains that are in force."""

from __future__ import annotations

import asyncio
from typing import Any

from api.dashboard.site import Asked, Page
from app.rules.worker_heartbeats import shown_role


async def _load(asked: Asked) -> dict[str, Any]:
    answer, control, queues = await asyncio.gather(
        asked.inside.get("/api/workers"), asked.inside.get("/api/control"), asked.inside.get("/api/queues")
    )
    alive = {worker["worker"] for worker in answer["workers"]}
    return {
        "data": answer,
        "workers": [one | {"shown_role": shown_role(one["role"], one["queue"])} for one in answer["workers"]],
        "unworked": [one for one in queues["queues"] if not one["workers_count"]],
        "draining": control["draining"],
        "drained_and_away": sorted(set(control["draining"]) - alive),
        "concurrency_of_workers": control["concurrency_of_workers"],
    }


PAGE = Page("/workers", "workers.html", "Workers", _load)
