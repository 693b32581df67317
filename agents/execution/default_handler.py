"""The default handler, without a project: it waits for EBS_PROCESS_TIME."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from ebs.marks import inline

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.settings.settings import ProcessTime
    from ebs.context import Context
    from ebs.marks import Handler
    from ebs.task import Task


def default_handler(process_time: ProcessTime, draw: Callable[[float, float], float] = random.uniform) -> Handler:
    """Return the handler that takes `process_time`; one that takes none does not wait at all."""
    if process_time.high_s == 0:
        return _do_nothing

    async def take_time(_task: Task, _context: Context) -> None:
        await asyncio.sleep(draw(process_time.low_s, process_time.high_s))

    return take_time


@inline
def _do_nothing(_task: Task, _context: Context) -> None:
    """Finish at once."""
