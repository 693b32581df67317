"""`ebs workers`: the running workers and their state."""

from __future__ import annotations

from typing import Annotated

import typer

from ebs.cli.client import path_of
from ebs.cli.control_tables import paused_lines, running_table, standing_lines, workers_table
from ebs.cli.options import ROLES, Role
from ebs.cli.remote import Api, AsJson, open_api, show


def workers(
    context: typer.Context,
    *,
    role: Annotated[Role | None, typer.Option("--role", metavar=ROLES, help="Only this role. Default: all.")] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="QUEUE", help="Only processing workers of it.")
    ] = None,
    running: Annotated[bool, typer.Option("--running", help="Also show the longest running tasks.")] = False,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Show the live workers and what blocks them.

    A worker is live if it sent a heartbeat within the last 10 s.
    """
    with open_api(context, api) as client:
        answer = client.get(path_of("workers"), role=None if role is None else role.value, queue=queue)
        paused = [] if as_json else paused_lines(client.get(path_of("control")))
    living = answer["workers"]
    tables = [workers_table(living), running_table(living)] if running else [workers_table(living)]
    show(answer, *(tables if living else ["no worker lives"]), *standing_lines(living), *paused, as_json=as_json)
