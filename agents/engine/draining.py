"""A drained worker finishes its running tasks and gives up its partitions; when undone, it takes part again.

It must give them up because it starts nothing: their tasks would wait until the worker ends. It stays in the group and
asks for no partitions (`StreamingApp.stand_aside`), so the other workers continue at once, and it can return quickly.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agents.engine.engine import Engine
    from app.rules.control import ControlState

log = logging.getLogger(__name__)


class StandAside(Protocol):
    """How a worker takes part in its group, or does not."""

    def __call__(self, *, aside: bool) -> None:
        """Let the others have all partitions, or ask for a share again."""


class Drainer:
    """Follows the drain command of one worker; `limit_s` is what running tasks get, as when the worker stops."""

    def __init__(
        self, engine: Engine, control: ControlState, stand: StandAside, *, worker: str, limit_s: float
    ) -> None:
        self._engine = engine
        self._control = control
        self._stand = stand
        self._worker = worker
        self._limit_s = limit_s
        self._is_drained = False
        self._leaving: asyncio.Task[None] | None = None

    def control_changed(self) -> None:
        """Begin to drain, or undo it, if that is what changed."""
        drained = self._control.is_draining(self._worker)
        if drained == self._is_drained:
            return
        self._is_drained = drained
        if drained:
            self._leaving = asyncio.create_task(self._leave())
            return
        if self._leaving is not None:
            self._leaving.cancel()
        log.info("drain undone: this worker takes tasks again")
        self._stand(aside=False)

    async def _leave(self) -> None:
        log.info(
            "drained: running tasks have %g s to finish, then other workers take over the partitions", self._limit_s
        )
        await self._engine.finish_running(self._limit_s)
        self._stand(aside=True)
