"""The list of objects with its filters, page by page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from api.dashboard.site import Asked, Page
from app.rules.ledger_states import ObjectState

_LIMIT = 50
_FILTERS = ("state", "kind", "parent", "created_after", "limit")
SPANS = (("", "any time"), ("15m", "last 15 min"), ("1h", "last hour"), ("1d", "last day"))
_SPAN_MS = {"15m": 900_000, "1h": 3_600_000, "1d": 86_400_000}


async def _load(asked: Asked) -> dict[str, Any]:
    wanted = {name: asked.query[name] for name in _FILTERS if asked.query.get(name)}
    since = asked.query.get("since", "")
    asked_for = dict(wanted)
    if since in _SPAN_MS and "created_after" not in wanted:
        asked_for["created_after"] = str(asked.now_ms - _SPAN_MS[since])
    cursor = asked.query.get("cursor")
    answer = await asked.inside.get("/api/objects", **{"limit": _LIMIT, **asked_for}, cursor=cursor)
    following = answer["next_cursor"]
    kept = {**wanted, **({"since": since} if since in _SPAN_MS else {})}
    return {
        "data": answer,
        "objects": answer["objects"],
        # The counts are those of all objects.
        "tabs": [] if "parent" in kept else _tabs(answer["counts"], kept),
        "kinds": asked.kinds,
        "wanted": kept,
        "spans": SPANS,
        "first_page": None if cursor is None else f"/objects?{urlencode(kept)}",
        "next_page": None if following is None else f"/objects?{urlencode({**kept, 'cursor': following})}",
    }


def _tabs(counts: dict[str, int], kept: dict[str, str]) -> list[tuple[str, int, str, bool]]:
    """Return name, count, address and whether it is shown, of all objects and of those in each state."""
    others = {name: value for name, value in kept.items() if name != "state"}
    tabs = [("all", sum(counts.values()), f"/objects?{urlencode(others)}", "state" not in kept)]
    for state in ObjectState:
        address = f"/objects?{urlencode({**others, 'state': state.value})}"
        tabs.append((state.value, counts.get(state.value, 0), address, kept.get("state") == state.value))
    return tabs


PAGE = Page("/objects", "objects.html", "Objects", _load)
