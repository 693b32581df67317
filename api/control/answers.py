"""Commands as the routes give them, and the answers that they get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.control.unknown_names import warnings_of, warnings_of_revoke
from api.dependencies import Collaborators, json_response
from api.submit.commands import Commander

if TYPE_CHECKING:
    from starlette.responses import Response

    from app.rules.commands import Command, CommandKey


async def put(parts: Collaborators, command_key: CommandKey, command: Command) -> Response:
    """Put a command in force and answer 202 with all commands in force."""
    seen = await commander_of(parts).put(command_key, command)
    return _accepted(parts, command_key, warnings_of(parts, command_key, command), seen=seen)


async def revoke(parts: Collaborators, command_key: CommandKey) -> Response:
    """Revoke a command if it is in force, and answer as `put`."""
    warnings = warnings_of_revoke(parts, command_key)
    return _accepted(parts, command_key, warnings, seen=await commander_of(parts).revoke(command_key))


def commander_of(parts: Collaborators) -> Commander:
    """Return the `Commander` of an application."""
    return Commander(parts.settings, parts.publisher, parts.view, parts.submitter.clock_ms)


def _accepted(parts: Collaborators, command_key: CommandKey, warnings: list[str], *, seen: bool) -> Response:
    control = parts.view.control.state.describe()
    answer = {
        "key": command_key.encoded().decode(),
        "status": "accepted",
        "seen": seen,
        "warnings": warnings,
        "control": control,
    }
    return json_response(answer, 202)
