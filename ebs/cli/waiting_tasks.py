"""`ebs waiting`: list waiting tasks, start them now or cancel them, as a client of the API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebs.cli.client import path_of
from ebs.cli.commands import PlainCommand, subcommands
from ebs.cli.instants import instant_text
from ebs.cli.remote import Api, AsJson, Cursor, open_api, show, show_with_warnings, table_of
from ebs.cli.task_tables import seconds_text

if TYPE_CHECKING:
    from rich.table import Table

_WAITING = "waiting"

TaskId = Annotated[str | None, typer.Argument(metavar="TASK_ID", help="One task.")]
Kind = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only this kind of task.")]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="REASON", help="Only tasks with this reason: retry, delay, kind or key."),
]
Object = Annotated[str | None, typer.Option("--object", metavar="ID", help="Only tasks of this object.")]
All = Annotated[bool, typer.Option("--all", help="All waiting tasks.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1_000, help="Maximum number of tasks.")]

waiting = subcommands("List waiting tasks, start them now or cancel them.")


@waiting.callback(invoke_without_command=True)
def _listed_by_default(
    context: typer.Context,
    *,
    kind: Kind = None,
    reason: Reason = None,
    of_object: Object = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """List waiting tasks, start them now or cancel them.

    Without a subcommand: `ls`.
    """
    if context.invoked_subcommand is None:
        wanted = {"kind": kind, "reason": reason, "of_object": of_object, "cursor": cursor, "api": api}
        ls(context, **wanted, limit=limit, as_json=as_json)
    elif kind or reason or of_object:
        raise typer.BadParameter(f"put options after the subcommand: ebs waiting {context.invoked_subcommand} ...")


@waiting.command(cls=PlainCommand)
def ls(
    context: typer.Context,
    *,
    kind: Kind = None,
    reason: Reason = None,
    of_object: Object = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """List waiting tasks; the task that is due next comes first.

    Above the list: how many tasks wait, by kind and reason.
    """
    wanted = {"kind": kind, "reason": reason, "object_id": of_object}
    with open_api(context, api) as client:
        counts = client.get(path_of(_WAITING, "counts"), **wanted)
        answer = client.get(path_of(_WAITING), **wanted, limit=limit, cursor=cursor)
    now_ms = _now_ms()
    rows = [
        (one["task_id"], one["kind"], one["queue"], one["reason"], _due_text(one, now_ms), one["attempt"], one["error"])
        for one in answer["tasks"]
    ]
    headings = ("task", "kind", "queue", "reason", "due", "attempt", "last error")
    shown = [_counts_table(counts, now_ms), table_of("waiting tasks", headings, rows)] if rows else ["no task waits"]
    if not rows and any(wanted.values()):
        shown = ["no waiting task matches"]
    show(answer | {"total": counts["total"], "groups": counts["groups"]}, *shown, as_json=as_json)
    if answer["next_cursor"] and not as_json:
        typer.echo(f"more: --cursor {answer['next_cursor']}", err=True)


@waiting.command(cls=PlainCommand)
def counts(
    context: typer.Context,
    *,
    kind: Kind = None,
    reason: Reason = None,
    of_object: Object = None,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Count waiting tasks by kind and reason.

    Also shows when the next task of each group is due.
    """
    with open_api(context, api) as client:
        answer = client.get(path_of(_WAITING, "counts"), kind=kind, reason=reason, object_id=of_object)
    show(answer, _counts_table(answer, _now_ms()) if answer["groups"] else "no task waits", as_json=as_json)


@waiting.command(cls=PlainCommand)
def start(
    context: typer.Context,
    task_id: TaskId = None,
    *,
    kind: Kind = None,
    reason: Reason = None,
    of_object: Object = None,
    everything: All = False,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Start waiting tasks now: one, or all that match.

    Only retries and delayed tasks. A task that waits for its kind or key starts when these are free.
    """
    body = _body(task_id, kind, reason, of_object, everything=everything)
    with open_api(context, api) as client:
        answer = client.post(path_of(_WAITING, "start"), body)
    show_with_warnings(answer, f"started now: {_meant(answer, task_id)}", as_json=as_json)


@waiting.command(cls=PlainCommand)
def cancel(
    context: typer.Context,
    task_id: TaskId = None,
    *,
    kind: Kind = None,
    reason: Reason = None,
    of_object: Object = None,
    everything: All = False,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Cancel waiting tasks: one, or all that match.

    Running tasks go on, and tasks that begin to wait later are not affected. `ebs cancel` also ends running tasks.
    """
    body = _body(task_id, kind, reason, of_object, everything=everything)
    with open_api(context, api) as client:
        path = path_of(_WAITING, "cancel") if task_id is None else path_of("control", "cancel")
        answer = client.post(path, body)
    show_with_warnings(answer, f"cancelled: {_meant(answer, task_id)}", as_json=as_json)


def _body(
    task_id: str | None, kind: str | None, reason: str | None, object_id: str | None, *, everything: bool
) -> dict[str, Any]:
    conditions = {"kind": kind, "reason": reason, "object_id": object_id}
    given = {name: value for name, value in conditions.items() if value is not None}
    if [task_id is not None, bool(given), everything].count(True) != 1:
        raise typer.BadParameter("name one thing: a TASK_ID, or conditions such as --kind, or --all")
    if task_id is not None:
        return {"task_id": task_id}
    return given or {"all": True}


def _meant(answer: dict[str, Any], task_id: str | None) -> str:
    if task_id is not None:
        return f"task {task_id}"
    count = answer["tasks_count"]
    return f"{count:,} waiting task{'' if count == 1 else 's'}"


def _counts_table(counts: dict[str, Any], now_ms: int) -> Table:
    rows = [
        (one["kind"], one["reason"], one["waiting_count"], _instant_and_age(one["next_due_at_ms"], now_ms))
        for one in counts["groups"]
    ]
    return table_of(f"{counts['total']:,} waiting", ("kind", "reason", "waiting", "next due"), rows)


def _due_text(task: dict[str, Any], now_ms: int) -> str | None:
    due_at_ms = task["due_at_ms"]
    if task["started"] and due_at_ms is not None and due_at_ms <= now_ms:
        return "runs now"
    return _instant_and_age(due_at_ms, now_ms)


def _instant_and_age(due_at_ms: int | None, now_ms: int) -> str | None:
    if due_at_ms is None:
        return None
    age = "now" if due_at_ms <= now_ms else f"in {_coarse(due_at_ms - now_ms)}"
    return f"{instant_text(due_at_ms)} ({age})"


def _coarse(wait_ms: int) -> str:
    for unit_ms, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min")):
        if wait_ms >= unit_ms:
            return f"{wait_ms // unit_ms} {unit}"
    return seconds_text(wait_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
