"""`ebs tasks`: the tasks of an object, or one of them with every attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebs.cli.client import path_of
from ebs.cli.control_tables import tasks_table
from ebs.cli.remote import Api, AsJson, all_pages, open_api, show
from ebs.cli.task_tables import described_task
from ebs.client.errors import NotFound

if TYPE_CHECKING:
    from ebs.cli.client import ApiClient

_PAGE_COUNT = 1_000


def tasks(
    context: typer.Context,
    object_id: Annotated[str, typer.Argument(metavar="OBJECT_ID", help="The object's id, or the id of a task.")],
    task: Annotated[
        str | None,
        typer.Argument(metavar="TASK", help="One task: its number from 0, split or join. Default: all tasks."),
    ] = None,
    *,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Show the tasks of an object, or one of them.

    Shows state, attempts, times, and result or error of each task. If you name a task, it also shows the content and
    every attempt, with the stack trace of the last failed attempt.
    """
    with open_api(context, api) as client:
        named = None if task is None else (object_id, task)
        if named is None:
            try:
                answer = all_tasks(client, object_id)
            except NotFound:
                # Tables and logs name tasks by their ids.
                named = _parts_of(object_id)
                if named is None:
                    raise
        if named is not None:
            answer = client.get(path_of("objects", named[0], "tasks", named[1]))
    show(answer, *([tasks_table(answer)] if named is None else described_task(answer)), as_json=as_json)


def _parts_of(task_id: str) -> tuple[str, str] | None:
    """Return the id of the object and the name of the task, None if this is not the id of a task."""
    from app.events import parse_task_id

    parsed = parse_task_id(task_id)
    return None if parsed is None else (parsed[0], task_id.removeprefix(f"{parsed[0]}-"))


def all_tasks(client: ApiClient, object_id: str) -> dict[str, Any]:
    """Ask for all tasks of an object, however many pages they are; returns one answer."""
    return all_pages(client, path_of("objects", object_id, "tasks"), "tasks", limit=_PAGE_COUNT)
