"""`ebs tasks`: the tasks of an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebs.cli.client import path_of
from ebs.cli.control_tables import tasks_table
from ebs.cli.remote import Api, AsJson, all_pages, open_api, show

if TYPE_CHECKING:
    from ebs.cli.client import ApiClient

_PAGE_COUNT = 1_000


def tasks(
    context: typer.Context,
    object_id: Annotated[str, typer.Argument(metavar="OBJECT_ID", help="The object's id.")],
    *,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Show the tasks of an object.

    Each with its state, attempts, times, and its result or error.
    """
    with open_api(context, api) as client:
        answer = all_tasks(client, object_id)
    show(answer, tasks_table(answer), as_json=as_json)


def all_tasks(client: ApiClient, object_id: str) -> dict[str, Any]:
    """Ask for all tasks of an object, however many pages they are; returns one answer."""
    return all_pages(client, path_of("objects", object_id, "tasks"), "tasks", limit=_PAGE_COUNT)
