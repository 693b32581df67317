"""Run one object through your project in this process: without Kafka, without waiting.

    from ebs.testing import run
    from shop.work import project

    def test_an_order_has_a_total():
        done = run(project, "order", {"lines": [{"sku": "a", "count": 2}]})
        assert done.state == "FINISHED"
        assert done.result == {"cents": 200}

Split, tasks and join run by the code of the workers: it decodes contents, calls the functions, judges results and
errors, and applies their policies. The differences:

- Tasks run one after another, by their due time and then in their order. The pause before a retry takes no time.
- A `@cpu_bound` function runs in a thread of this process, so your fakes and your debugger reach it.
- What functions submit does not run, and they can send to any topic: EBS_OUTPUT_TOPICS is not looked at.
- A time limit is real time. The settings are those of the environment (`EBS_MAX_ATTEMPTS`); EBS_PROJECT is not read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ebs.client.bodies import NewObject
from ebs.errors import EbsError
from ebs.project import Project
from ebs.testing.object_run import AttemptRun, Failure, ObjectRun, ProducedObject, ProducedRecord, TaskRun
from ebs.testing.own_packages import own_packages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = [
    "AttemptRun",
    "Failure",
    "ObjectRefused",
    "ObjectRun",
    "ProducedObject",
    "ProducedRecord",
    "TaskRun",
    "arun",
    "run",
]


class ObjectRefused(EbsError):
    """The API would not take the object (422 or 413): nothing has run."""


def run(
    project: Project,
    kind: str,
    content: Any = None,
    *,
    tasks: int | Sequence[Any] | None = None,
    name: str = "",
    object_id: str | None = None,
    delay_s: float | None = None,
    due_at: datetime | None = None,
    key: str | None = None,
) -> ObjectRun:
    """Run an object to its end, and return all that would have been committed. It does not raise if a function fails.

    `content`, `tasks` (a number, or a list with the content or an `Item` for each task), `name`, `object_id`,
    `delay_s`, `due_at` and `key` are those of `Client.submit`. Without `tasks` the kind's split makes them, else
    there are EBS_TASKS_PER_OBJECT (1) of them. Delays and pauses take no time.

    Raises `ObjectRefused` for what the API would refuse, `ProjectRefused` if functions do not fit together.
    """
    if asyncio._get_running_loop() is not None:  # noqa: SLF001  # the public one raises where there is none
        raise RuntimeError("an event loop runs here already: write `await arun(...)` instead of `run(...)`")
    asked = {"tasks": tasks, "name": name, "object_id": object_id, "delay_s": delay_s, "due_at": due_at, "key": key}
    return asyncio.run(arun(project, kind, content, **asked))  # type: ignore[arg-type]  # they are those of `run`


async def arun(
    project: Project,
    kind: str,
    content: Any = None,
    *,
    tasks: int | Sequence[Any] | None = None,
    name: str = "",
    object_id: str | None = None,
    delay_s: float | None = None,
    due_at: datetime | None = None,
    key: str | None = None,
) -> ObjectRun:
    """Do what `run` does, in an event loop that runs already: for tests that are `async def`."""
    if not isinstance(project, Project):
        raise TypeError(f"the project comes first: run(project, {kind!r}, ...), not a {type(project).__name__}")
    with own_packages():
        from ebs.testing.system import MemorySystem  # noqa: PLC0415  # it imports the workers' code, by names of ours
    wanted = NewObject(kind, content, tasks, name, object_id, delay_s=delay_s, due_at=due_at, key=key)
    return await MemorySystem(project, ObjectRefused).run(wanted)
