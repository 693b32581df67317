"""The project of the model's workers: tasks that send, alone or in batches, a split, a join that submits an object.

When they fail is not theirs to say: `workers.PlannedExecutor` lets an attempt fail after its function has produced
everything, so that whatever such an attempt leaves behind is found.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ebs import BatchContext, Context, Project, Task

QUEUE = "side"
"""Of the kind `mapped` in the projects with a queue."""
MAPPED, PLAIN = "mapped", "default"
SINK, SINK_PARTITIONS = "sink", 2
"""A user's topic: each task without a role sends one record, with its id as the key."""


class Job(msgspec.Struct):
    """The content of an object of the kind `mapped`: its tasks, and how many objects its chain has behind it."""

    pieces: int
    left: int = 0

    def following(self) -> Job:
        """Return the next job of the chain."""
        return Job((self.pieces + 1) % 3, self.left - 1)


async def split(task: Task[Job], _context: Context) -> list[int]:
    """Return the numbers of the pieces; there may be none."""
    return list(range(task.content.pieces))


async def work(task: Task[Any], context: Context) -> dict[str, Any]:
    """Send a record, and return the content."""
    context.send(SINK, task.task_id, str(context.attempt))
    return {"content": task.content}


async def work_together(tasks: list[Task[Any]], context: BatchContext) -> list[dict[str, Any]]:
    """Do the same for several tasks in one call."""
    return [await work(task, context.of(task)) for task in tasks]


async def join(results: list[dict[str, Any]], context: Context) -> list[Any]:
    """Submit the next object, which the name says, and return the contents in their order."""
    job = msgspec.json.decode(context.object.name, type=Job)
    if job.left:
        following = job.following()
        context.submit(MAPPED, following, name=msgspec.json.encode(following).decode())
    return [one["content"] for one in results]


def spec_of(*, has_queue: bool, in_order: bool, is_scarce: bool) -> str:
    """Return which project to load: one where `mapped` has a queue, tasks of a key run in order, or few run at once."""
    words = (("_queued", has_queue), ("_in_order", in_order), ("_scarce", is_scarce))
    return f"simulation.functions:project{''.join(word for word, is_so in words if is_so)}"


def _project(*, queue: str | None = None, per_key: int | None = None, concurrency: int | None = None) -> Project:
    made = Project()
    made.split(MAPPED)(split)
    made.task(MAPPED, queue=queue, per_key=per_key, concurrency=concurrency)(work)
    made.task(PLAIN, batch=3, batch_wait_s=0.02, per_key=per_key, concurrency=concurrency)(work_together)
    made.task("*", per_key=per_key)(work)
    made.join(MAPPED)(join)
    return made


project, project_queued = _project(), _project(queue=QUEUE)
project_in_order, project_queued_in_order = _project(per_key=1), _project(queue=QUEUE, per_key=1)
project_scarce, project_queued_scarce = _project(concurrency=2), _project(queue=QUEUE, concurrency=2)
project_in_order_scarce = _project(per_key=1, concurrency=2)
project_queued_in_order_scarce = _project(queue=QUEUE, per_key=1, concurrency=2)
