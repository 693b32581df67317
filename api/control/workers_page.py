"""Who works: state, in flight, last progress, and the drains that are in force."""

from __future__ import annotations

import asyncio
from typing import Any

from api.dashboard.site import Asked, Page


async def _load(asked: Asked) -> dict[str, Any]:
    answer, control = await asyncio.gather(asked.inside.get("/api/workers"), asked.inside.get("/api/control"))
    alive = {worker["worker"] for worker in answer["workers"]}
    return {
        "data": answer,
        "workers": answer["workers"],
        "draining": control["draining"],
        "drained_and_away": sorted(set(control["draining"]) - alive),
        "concurrency_of_workers": control["concurrency_of_workers"],
    }


PAGE = Page("/workers", "workers.html", "Workers", _load)
