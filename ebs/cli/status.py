"""`ebs status`: one object, how far it is, and its tasks."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from app.rules.ledger_states import ObjectState
from ebs.cli.client import path_of
from ebs.cli.control_tables import tasks_table
from ebs.cli.object_tables import object_table
from ebs.cli.object_waits import Timeout, wait_for_end
from ebs.cli.remote import Api, AsJson, open_api, show
from ebs.cli.tasks import all_tasks


def status(
    context: typer.Context,
    object_id: Annotated[str, typer.Argument(metavar="OBJECT_ID", help="The object's id.")],
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended; exit code 1 if it failed.")] = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Show an object and its tasks."""
    with open_api(context, api) as client:
        if wait:
            answer = wait_for_end(client, object_id, None if timeout is None else time.monotonic() + timeout)
        else:
            answer = client.get(path_of("objects", object_id))
        tasks = all_tasks(client, object_id)
    show({**answer, "tasks": tasks["tasks"]}, object_table(answer), tasks_table(tasks), as_json=as_json)
    if wait and answer["state"] != ObjectState.FINISHED:
        raise typer.Exit(1)
