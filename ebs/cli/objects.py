"""`ebs objects`: a list of objects."""

from __future__ import annotations

from typing import Annotated

import typer

from app.rules.ledger_states import ObjectState
from ebs.cli.client import path_of
from ebs.cli.instants import instant_ms, instant_text
from ebs.cli.remote import Api, AsJson, Cursor, open_api, show, table_of

_MAX_LIMIT = 500  # of one page of the API


def _check_states(text: str | None) -> str | None:
    names = [name.strip().upper() for name in text.split(",")] if text else []
    unknown = [name for name in names if name not in ObjectState.__members__]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not a state: give one or several of {', '.join(ObjectState)}")
    return ",".join(names) or None


def objects(
    context: typer.Context,
    *,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="STATE", callback=_check_states, help="One state, or several: failed,cancelled."
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only this kind. Default: all.")] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="OBJECT_ID", help="Only what tasks of this object submitted.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Created at or after: 2h, 2026-11-24T07:00.")
    ] = None,
    before: Annotated[
        str | None, typer.Option("--before", metavar="TIME", help="Created before: 10m, 2026-11-24T07:00.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=_MAX_LIMIT, help="Maximum number of entries.")
    ] = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """List objects, newest first.

    The states are CREATED, DISTRIBUTED, PROCESSING, FINISHED, FAILED and CANCELLED.
    """
    wanted = {
        "state": state,
        "kind": kind,
        "parent": parent,
        "created_after": instant_ms(since),
        "created_before": instant_ms(before),
        "cursor": cursor,
    }
    with open_api(context, api) as client:
        answer = client.get(path_of("objects"), **wanted, limit=limit)
    rows = [
        (
            one["id"],
            instant_text(one["created_at_ms"]),
            one["state"],
            f"{one['tasks_done']} of {one['tasks_total'] or '?'}",
            one["kind"],
            one["name"],
        )
        for one in answer["objects"]
    ]
    table = table_of("objects", ("id", "created", "state", "tasks", "kind", "name"), rows)
    show(answer, table if rows else "no object matches", as_json=as_json)
    if answer["next_cursor"] and not as_json:
        typer.echo(f"more: --cursor {answer['next_cursor']}", err=True)
