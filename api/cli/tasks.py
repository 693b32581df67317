"""`ebs tasks`: the tasks of an object."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.control_tables import tasks_table
from api.cli.remote import Api, AsJson, open_api, show
from api.client import path_of


def tasks(
    context: typer.Context,
    object_id: Annotated[str, typer.Argument(metavar="OBJECT_ID", help="The object's id.")],
    *,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Show the tasks of an object: state, attempts, times, result or error."""
    with open_api(context, api) as client:
        answer = client.get(path_of("objects", object_id, "tasks"))
    show(answer, tasks_table(answer), as_json=as_json)
