"""A project with two kinds in two queues: `mail` in the default one, `embed` (with split and join) in `gpu`.

EBS_TEST_QUEUE names another queue for `embed`.

What a task of `embed` does is in its content: a number of seconds to sleep, "fail" (until the file EBS_TEST_MENDED is
there), or anything else, which it returns.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from ebs import Context, Project, Retry, Task

project = Project()
MAIL, EMBED, QUEUE = "mail", "embed", os.environ.get("EBS_TEST_QUEUE", "gpu")
QUEUED = {"EBS_PROJECT": "queued_project"}


@project.task(MAIL)
async def mail(task: Task, _context: Context) -> Any:
    """Return the content."""
    return task.content


@project.split(EMBED)
async def pages(task: Task, _context: Context) -> list[Any]:
    """Return a task for each page."""
    return list(task.content)


@project.task(EMBED, queue=QUEUE, attempts=2, backoff=0.2)
async def embed(task: Task, _context: Context) -> Any:
    """Work on a page; the result names the queue of the worker."""
    if isinstance(task.content, float):
        await asyncio.sleep(task.content)
    if task.content == "retry" and task.attempt == 1:
        raise Retry(delay_s=5.0)
    if task.content == "fail" and not _is_mended():
        raise ValueError("no GPU")
    return {"page": task.content, "queue": os.environ.get("EBS_QUEUE", "default")}


def _is_mended() -> bool:
    return Path(os.environ["EBS_TEST_MENDED"]).exists()


@project.join(EMBED)
def book(results: list[dict[str, Any]], _context: Context) -> dict[str, Any]:
    """Return the pages, and the queues of all workers that took part."""
    queues = {one["queue"] for one in results} | {os.environ.get("EBS_QUEUE", "default")}
    return {"pages": [one["page"] for one in results], "queues": sorted(queues)}
