"""Tumbling windows with their percentiles, by size and kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.dashboard.site import Asked, Page

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZES = ((10, "10 s"), (60, "1 min"), (3_600, "1 h"))
_SHORTEST = "10"
_DEFAULT_LIMIT = 60


async def _load(asked: Asked) -> dict[str, Any]:
    wanted = {"size": asked.query.get("size") or _SHORTEST, "kind": asked.query.get("kind"), "limit": _limit_of(asked)}
    answer = await asked.inside.get("/api/statistics/windows", **wanted)
    return {
        "data": answer,
        "windows": answer["windows"],
        "sizes": SIZES,
        "kinds": kinds_of(asked),
        "wanted": wanted,
        "most": max((window["tasks_finished"] for window in answer["windows"]), default=0),
    }


def _every_s(query: Mapping[str, str]) -> float:
    """Redraw long windows seldom: hours are added up from thousands of rows, and change slowly."""
    return 1.0 if query.get("size", _SHORTEST) == _SHORTEST else 10.0


def _limit_of(asked: Asked) -> str:
    return asked.query.get("limit") or str(_DEFAULT_LIMIT)


def kinds_of(asked: Asked) -> list[str]:
    """Return the kinds that anything was counted of."""
    return sorted(asked.health["statistics"].get("kinds", {}))


PAGE = Page("/statistics/windows", "windows.html", "Windows", _load, every_s=_every_s)
