"""Commands as the routes give them, and the answers that they get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.control.unknown_names import warnings_of, warnings_of_revoke
from api.dependencies import Collaborators, json_response
from api.submit.commands import Commander

if TYPE_CHECKING:
    from starlette.responses import Response

    from app.rules.commands import Command, Place


async def put(parts: Collaborators, place: Place, command: Command) -> Response:
    """Put a command in force and answer 202 with what is in force then."""
    seen = await commander_of(parts).put(place, command)
    return _accepted(parts, place, warnings_of(parts, place, command), seen=seen)


async def revoke(parts: Collaborators, place: Place) -> Response:
    """Put a command out of force, if it was in force, and answer as `put`."""
    warnings = warnings_of_revoke(parts, place)
    return _accepted(parts, place, warnings, seen=await commander_of(parts).revoke(place))


def commander_of(parts: Collaborators) -> Commander:
    """Return who gives commands."""
    return Commander(parts.settings, parts.publisher, parts.view, parts.submitter.clock_ms)


def now_ms(parts: Collaborators) -> int:
    """Return the time now, in epoch ms."""
    return parts.submitter.clock_ms()


def _accepted(parts: Collaborators, place: Place, warnings: list[str], *, seen: bool) -> Response:
    control = parts.view.control.state.describe()
    answer = {"key": place.key().decode(), "status": "accepted", "seen": seen, "warnings": warnings, "control": control}
    return json_response(answer, 202)
