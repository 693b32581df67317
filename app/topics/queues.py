"""The queues of a system, as its project names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.rules.routing import Routes
from app.settings.project import project_of
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from app.settings.settings import Settings


def routes_of(settings: Settings) -> Routes:
    """Return where requests go. Raises `SettingsError` if the project cannot be loaded."""
    project = project_of(settings)
    if project is None:
        return Routes(settings.names, settings.partitions)
    return Routes(settings.names, settings.partitions, project.queues, kinds_by_key=project.is_limited_by_key)


def queues_of(settings: Settings) -> tuple[str, ...]:
    """Return the queues of the system, the default one first, and the queue that this process works.

    No kind may name that one any more: tasks may wait in it still. Raises `SettingsError`.
    """
    project = project_of(settings)
    named = set() if project is None else {*project.queues.values()}
    return (DEFAULT_QUEUE, *sorted({*named, settings.queue} - {DEFAULT_QUEUE}))
