"""A project of chains and sinks, for tests with real workers: each function notes its runs."""

from __future__ import annotations

import os

from fault_handlers import note

from ebs import Context, Project, Task

TOPIC = "sink"
CHAINED = {"EBS_PROJECT": "chain_project", "EBS_OUTPUT_TOPICS": TOPIC, "EBS_TASKS_PER_OBJECT": "1"}
"""Settings of the workers that have it."""
RECORDS = int(os.environ.get("CHAIN_RECORDS", "10"))
"""How many records each task of the kind `sink` sends."""

project = Project()


@project.task("link")
async def link(task: Task, context: Context) -> None:
    """Submit the next link, until the name, a number, has come down to 1."""
    note(task, context)
    left = int(str(task.name)) - 1
    if left:
        context.submit("link", name=str(left))


@project.task("sink")
def sink(task: Task, context: Context) -> None:
    """Send records, each with a key of its own."""
    note(task, context)
    for number in range(RECORDS):
        context.send(TOPIC, f"{task.object_id}/{number}", {"number": number})
