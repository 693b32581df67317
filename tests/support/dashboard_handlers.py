"""Handlers for the dashboard's tests with real workers: they end when a file says so."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebs import Item, Project, Reject, Retry

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


def lines(order: Task, _context: Context) -> list[Item]:
    """Split an order. For the pictures of the documentation, as the next two."""
    time.sleep(0.2)
    return [Item(line, name=line["sku"]) for line in order.content["lines"]]


def total(prices: list[dict[str, int]], _context: Context) -> dict[str, int]:
    """Join an order."""
    time.sleep(0.3)
    return {"cents": sum(price["cents"] for price in prices)}


async def paced(task: Task, context: Context) -> dict[str, Any]:
    """Take up to a second; of an order, the first attempt of task 2 fails."""
    await asyncio.sleep(0.2 + 0.15 * task.sequence)
    if task.kind == "order" and task.sequence == 2 and context.attempt == 1:
        raise Retry(delay_s=1, reason="the price list is being changed")
    return {"cents": 100 * (task.sequence + 1)}


project = Project()
project.task("*")(at_once)
project.task("gated")(gated)
project.task("letter")(mended)
project.split("order")(lines)
project.task("order")(paced)
project.join("order")(total)
project.task("report")(paced)
