"""What is said of a command for a kind or worker that nobody knows: it holds, but it may be a slip of the finger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from api.dependencies import now_ms
from api.view.behind import ViewBehind
from app.rules.commands import Cancel, Family
from app.settings.project import handled_kinds
from app.telemetry.near_names import did_you_mean, shown

if TYPE_CHECKING:
    from api.dependencies import Collaborators
    from app.rules.commands import Command, CommandKey

_OF_KINDS = {Family.PAUSE, Family.RATE, Family.LIMIT}
_ALL_THE_SAME = "The command is in force anyway"


def warnings_of(parts: Collaborators, command_key: CommandKey, command: Command) -> list[str]:
    """Return what is odd about a command that is put in force."""
    kind = command_key.name if command_key.family in _OF_KINDS else ""
    if isinstance(command, Cancel) and command.kind is not UNSET:
        kind = command.kind
    if kind:
        return _of_kind(parts, kind)
    if command_key.family is Family.CONCURRENCY and command_key.name:
        return _of_worker(parts, command_key.name)
    return []


def warnings_of_revoke(parts: Collaborators, command_key: CommandKey) -> list[str]:
    """Return what is odd about a command that is to be revoked: that there is none; called before it is."""
    in_force = [other.name for other in parts.view.control.state.commands() if other.family is command_key.family]
    if not command_key.name or command_key.name in in_force:
        return []
    guess = did_you_mean(command_key.name, filter(None, in_force))
    return [f"no such command for {shown(command_key.name)} was in force{guess}"]


def _of_kind(parts: Collaborators, kind: str) -> list[str]:
    try:
        known = set(parts.view.statistics.totals())
    except ViewBehind:
        return []  # a view that is only being read knows few kinds yet
    known |= {name for name, _state in parts.view.object_index.counts}
    known |= handled_kinds(parts.settings) or set()
    if kind in known:
        return []
    return [f"no task of kind {shown(kind)} was ever seen{did_you_mean(kind, known)}. {_ALL_THE_SAME}"]


def _of_worker(parts: Collaborators, worker: str) -> list[str]:
    known = {heard.heartbeat.worker for heard in parts.view.workers.alive(now_ms(parts))}
    if worker in known:
        return []
    return [f"no worker {shown(worker)} is running{did_you_mean(worker, known)}. {_ALL_THE_SAME}"]
