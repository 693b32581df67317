"""What is done with a task: the default handler, which only takes time, as the seed's processor does."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.events import TaskCreated
    from app.settings import ProcessTime

    Handler = Callable[[TaskCreated], Awaitable[Any]] | Callable[[TaskCreated], Any]


def inline(handler: Callable[[TaskCreated], Any]) -> Callable[[TaskCreated], Any]:
    """Mark a plain function that returns at once: it is called in the event loop, without a thread or a task."""
    handler.ebs_inline = True  # type: ignore[attr-defined]  # a mark, read by `is_inline`
    return handler


def is_inline(handler: Handler) -> bool:
    """Return whether a handler was marked with `inline`."""
    return getattr(handler, "ebs_inline", False)


def default_handler(process_time: ProcessTime, draw: Callable[[float, float], float] = random.uniform) -> Handler:
    """Return the handler that takes `process_time`; one that takes none does not wait at all."""
    if process_time.high_s == 0:
        return _do_nothing

    async def take_time(_task: TaskCreated) -> None:
        await asyncio.sleep(draw(process_time.low_s, process_time.high_s))

    return take_time


@inline
def _do_nothing(_task: TaskCreated) -> None:
    """Finish at once."""
