"""`ebs dead-letters`: look at dead letters, as a client of the API."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from ebs.cli.client import path_of
from ebs.cli.commands import PlainCommand, subcommands
from ebs.cli.instants import instant_text
from ebs.cli.letter_options import LETTERS, LetterId, by_conditions
from ebs.cli.remote import Api, AsJson, Cursor, open_api, show, table_of


class State(StrEnum):
    """Which letters are shown."""

    DEAD = "dead"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"
    ALL = "all"


WhichState = Annotated[State, typer.Option("--state", metavar="|".join(State), help="Only letters in this state.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1_000, help="Maximum number of entries.")]

dead_letters = subcommands("List and show dead letters: tasks that failed for good.")


@dead_letters.callback(invoke_without_command=True)
def _listed_by_default(
    context: typer.Context,
    as_json: AsJson = False,  # noqa: FBT002  # typer's way to make a flag
    api: Api = None,
) -> None:
    """List and show dead letters: tasks that failed for good.

    Without a subcommand: `ls`.
    """
    if context.invoked_subcommand is None:
        ls(context, as_json=as_json, api=api)


@dead_letters.command(cls=PlainCommand)
@by_conditions
def ls(
    context: typer.Context,
    *,
    wanted: dict[str, Any],
    state: WhichState = State.DEAD,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """List dead letters, newest first."""
    with open_api(context, api) as client:
        answer = client.get(
            path_of(LETTERS),
            **wanted,
            state=_state_of(state),
            limit=limit,
            cursor=cursor,
        )
    rows = [
        (
            one["id"],
            instant_text(one["at_ms"]),
            one["state"],
            one["kind"],
            one["task_id"] or one["topic"],
            one["fingerprint"],
            _error_of(one),
        )
        for one in answer["dead_letters"]
    ]
    headings = ("id", "died", "state", "kind", "task, or topic", "fingerprint", "error")
    table = table_of("dead letters", headings, rows)
    show(answer, table if rows else "no dead letter matches", as_json=as_json)
    if answer["next_cursor"] and not as_json:
        typer.echo(f"more: --cursor {answer['next_cursor']}", err=True)


@dead_letters.command(cls=PlainCommand)
@by_conditions
def groups(
    context: typer.Context,
    *,
    wanted: dict[str, Any],
    state: WhichState = State.DEAD,
    limit: Limit = 50,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """List groups of dead letters with the same error.

    The group that grew last comes first.
    """
    with open_api(context, api) as client:
        answer = client.get(
            path_of(LETTERS),
            group_by="fingerprint",
            **wanted,
            state=_state_of(state),
            limit=limit,
        )
    rows = [
        (
            one["fingerprint"],
            one["count"],
            ", ".join(f"{name or '(unknown)'} {count}" for name, count in one["kinds"].items()),
            instant_text(one["first_at_ms"]),
            instant_text(one["last_at_ms"]),
            _error_of(one),
        )
        for one in answer["groups"]
    ]
    headings = ("fingerprint", "letters", "kinds", "first", "last", "latest error")
    table = table_of("dead letters by error", headings, rows)
    show(answer, table if rows else "no dead letter matches", as_json=as_json)


@dead_letters.command(cls=PlainCommand)
def redrives(context: typer.Context, *, as_json: AsJson = False, api: Api = None) -> None:
    """List the last redrives by filter.

    Shows the progress of each redrive. `ebs redrive --cancel` stops a redrive.
    """
    with open_api(context, api) as client:
        answer = client.get(path_of(LETTERS, "redrives"))
    rows = [
        (
            one["id"],
            one["state"],
            ", ".join(f"{name} {value}" for name, value in one["filter"].items()) or "all",
            instant_text(one["started_at_ms"]),
            *(one[f"{what}_count"] for what in ("redriven", "refused", "skipped")),
            one["error"],
        )
        for one in answer["redrives"]
    ]
    headings = ("id", "state", "of", "started", "redriven", "refused", "skipped", "error")
    table = table_of("redrives of many letters", headings, rows)
    show(answer, table if rows else "there was none", as_json=as_json)


@dead_letters.command(name="show", cls=PlainCommand)
def show_letter(
    context: typer.Context,
    letter_id: LetterId,
    *,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Show a dead letter: value, headers, stack trace."""
    with open_api(context, api) as client:
        answer = client.get(path_of(LETTERS, letter_id))
    names = ("id", "state", "topic", "kind", "task_id", "object_id", "attempts", "redrive", "fingerprint")
    rows = [("died", instant_text(answer["at_ms"])), *((name, _text_of(answer[name])) for name in names)]
    rows += [("error", _error_of(answer)), ("value", _value_of(answer))]
    rows += [(f"{one['state'].lower()} {instant_text(one['at_ms'])}", _act_of(one)) for one in answer["acts"]]
    rows += [(one["name"], one["value"]) for one in answer["headers"] if not one["name"].endswith("stacktrace")]
    stack_trace = (answer["stack_trace"] or "").rstrip().split("\n")
    table = table_of(f"dead letter {letter_id}", ("what", "is"), rows)
    show(answer, table, *(f"  {line}" for line in stack_trace), as_json=as_json)


def _state_of(state: State) -> str | None:
    return None if state is State.ALL else state.upper()


def _error_of(answer: dict[str, Any]) -> str:
    error_type = (answer["error_type"] or "(unknown)").rpartition(".")[2]
    return f"{error_type}: {answer['error'] or ''}"


def _text_of(value: Any) -> str | None:
    return None if value is None else str(value)


def _value_of(answer: dict[str, Any]) -> str:
    if answer["value_bytes"] is None:
        return "(empty)"
    if answer["value_base64"] is not None:
        return f"{answer['value_text']} ({answer['value_bytes']} bytes, no JSON)"
    return json.dumps(answer["value"], ensure_ascii=False)


def _act_of(act: dict[str, Any]) -> str:
    by = f"by {act['by'] or 'somebody'}"
    return f"{by}: {act['reason']}" if act["reason"] else by
