"""Handlers for the dashboard's tests with real workers: they end when a file says so."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebs import Reject

if TYPE_CHECKING:
    from ebs import Context, Task

_POLL_S = 0.02


async def gated(task: Task, context: Context) -> dict[str, Any]:
    """Finish once a file with the object's name is in the directory of GATES."""
    gate = Path(os.environ["GATES"]) / task.name
    context.progress(0.5, "waits at its gate")
    while not gate.exists():  # noqa: ASYNC110  # what opens it is another process
        await asyncio.sleep(_POLL_S)
    return {"passed": task.name}


def at_once(_task: Task, _context: Context) -> None:
    """Finish."""


def mended(task: Task, _context: Context) -> str:
    """Die at once, unless a file with the object's name is in the directory of GATES."""
    if not (Path(os.environ["GATES"]) / task.name).exists():
        raise Reject(f"no template <{task.name}>")
    return "done"
