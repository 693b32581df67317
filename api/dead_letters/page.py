"""Dead letters: their groups, the letters of a group or of a filter, and one letter."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import msgspec

from api.dashboard.inside import Refused, path_of
from api.dashboard.site import Asked, Page
from api.statistics.windows_page import kinds_of
from app.rules.letter_acts import LetterState, parse_letter_id

_FILTERS = ("fingerprint", "kind", "error", "topic", "state")
_LIMIT = 50
_PATH = "/api/dead-letters"


async def _load(asked: Asked) -> dict[str, Any]:
    wanted = {name: asked.query[name] for name in _FILTERS if asked.query.get(name)}
    runs = asked.inside.get(f"{_PATH}/redrives")
    groups = asked.inside.get(_PATH, group_by="fingerprint", limit=200, **wanted)
    found, under_way = await asyncio.gather(groups, runs)
    context = {
        "groups": found["groups"],
        "runs": under_way["redrives"][:5],
        "wanted": wanted,
        "kinds": kinds_of(asked),
        "states": [state.value for state in LetterState],
        "letters": None,
        "next_page": None,
        "first_page": None,
    }
    if not wanted and "cursor" not in asked.query:
        return context | {"data": found}
    cursor = asked.query.get("cursor")
    letters = await asked.inside.get(_PATH, limit=_LIMIT, cursor=cursor, **wanted)
    following = letters["next_cursor"]
    return context | {
        "data": letters,
        "letters": letters["dead_letters"],
        "first_page": None if cursor is None else f"/dead-letters?{urlencode(wanted)}",
        "next_page": None if following is None else f"/dead-letters?{urlencode({**wanted, 'cursor': following})}",
    }


async def _load_one(asked: Asked) -> dict[str, Any]:
    if parse_letter_id(asked.path["letter_id"]) is None:
        # The API has other things at such a path, as `redrives`.
        raise Refused(404, {"title": "Not Found", "status": 404, "detail": "There is no such dead letter"})
    letter = await asked.inside.get(path_of("dead-letters", asked.path["letter_id"]))
    return {"data": letter, "letter": letter, "editable": editable_part(letter)}


def editable_part(letter: dict[str, Any]) -> str | None:
    """Return what a redrive may change, as JSON: of a task name, content and kind; None of a value that is no JSON."""
    value = letter["value"]
    if letter["value_bytes"] is None or letter["value_base64"] is not None:
        return None
    if letter["task_id"] is not None and isinstance(value, dict):
        value = {name: value[name] for name in ("name", "content", "kind") if name in value}
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


PAGE = Page("/dead-letters", "dead_letters.html", "Dead letters", _load)
LETTER_PAGE = Page("/dead-letters/{letter_id}", "letter.html", "Dead letter", _load_one)
