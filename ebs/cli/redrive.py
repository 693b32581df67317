"""`ebs redrive` and `ebs discard`: acts on dead letters, as clients of the API."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebs.cli.client import ApiError, path_of
from ebs.cli.letter_options import LETTERS, LetterId, by_conditions
from ebs.cli.remote import Api, AsJson, open_api, show

if TYPE_CHECKING:
    from ebs.cli.client import ApiClient

_POLL_S = 0.3
_INTERRUPTED = 130  # as shells count a Ctrl-C


@by_conditions
def redrive(
    context: typer.Context,
    letter_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="One letter. Default: all that match the filter.")
    ] = None,
    *,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="Redrive the letter ID with this payload.")
    ] = None,
    wanted: dict[str, Any],
    everything: Annotated[bool, typer.Option("--all", help="All dead letters, without a filter.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the letters.")] = False,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="N", min=0.001, help="Maximum letters per second.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--cancel", metavar="RUN", help="Stop a redrive (see `dead-letters redrives`)."),
    ] = None,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Give dead letters a new first attempt.

    Name one dead letter by its id, or give a filter. The command waits until the redrive has ended.
    """
    wanted = {name: value for name, value in wanted.items() if value is not None}
    by_filter = bool(wanted or everything)
    if run is not None:
        if letter_id is not None or by_filter or payload is not None or dry_run or rate is not None:
            raise typer.BadParameter("--cancel stops a redrive: leave out all other options")
        _cancel(context, api, run, as_json=as_json)
        return
    if (letter_id is not None) == by_filter:
        raise typer.BadParameter("give either an ID, or a filter (--fingerprint, --kind, ...), or --all")
    if letter_id is None and payload is not None:
        raise typer.BadParameter("--payload edits one letter: give its ID")
    if letter_id is not None and (dry_run or rate is not None):
        raise typer.BadParameter("--dry-run and --rate are for redrives by filter")
    with open_api(context, api) as client:
        if letter_id is not None:
            _redrive_one(client, letter_id, payload, as_json=as_json)
        elif dry_run:
            _count(client, {**wanted, "all": everything}, as_json=as_json)
        else:
            rated = {} if rate is None else {"rate_per_s": rate}
            _redrive_many(client, {**wanted, **rated, "all": everything}, as_json=as_json)


def discard(
    context: typer.Context,
    letter_id: LetterId,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why the letter is discarded.")],
    *,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Mark a dead letter as discarded."""
    with open_api(context, api) as client:
        answer = client.delete(path_of(LETTERS, letter_id), {"reason": reason})
    show(answer, f"{letter_id} is discarded", as_json=as_json)


def _cancel(context: typer.Context, api: str | None, run: str, *, as_json: bool) -> None:
    with open_api(context, api) as client:
        answer = client.delete(path_of(LETTERS, "redrives", run))
    words = "stops after its current chunk" if answer["state"] == "RUNNING" else f"is {answer['state'].lower()}"
    show(answer, f"redrive {run} {words}; letters redriven: {answer['redriven_count']}", as_json=as_json)


def _redrive_one(client: ApiClient, letter_id: str, payload: str | None, *, as_json: bool) -> None:
    body = None if payload is None else {"payload": _json_of(payload)}
    answer = client.post(path_of(LETTERS, letter_id, "redrive"), body)
    task = f": task {answer['task_id']}" if answer["task_id"] else ""
    show(answer, f"{letter_id} is redriven{task}", as_json=as_json)


def _count(client: ApiClient, wanted: dict[str, Any], *, as_json: bool) -> None:
    answer = client.post(path_of(LETTERS, "redrive"), {**wanted, "dry_run": True})
    limit = f"; {answer['at_limit_count']} more have reached the limit of redrives" if answer["at_limit_count"] else ""
    show(answer, f"letters that would be redriven: {answer['count']}{limit}", as_json=as_json)


def _redrive_many(client: ApiClient, wanted: dict[str, Any], *, as_json: bool) -> None:
    answer = _followed(client, client.post(path_of(LETTERS, "redrive"), wanted))
    counts = ", ".join(f"{answer[f'{what}_count']} {what}" for what in ("redriven", "refused", "skipped"))
    reasons = [f"{one['id']}: {one['reason']}" for one in answer["refused"]]
    show(answer, f"{answer['state'].lower()}: {counts}", *reasons, as_json=as_json)
    if answer["state"] != "DONE":
        raise ApiError(answer["error"] or "the redrive was cancelled")


def _followed(client: ApiClient, run: dict[str, Any]) -> dict[str, Any]:
    """Return a run once it has ended."""
    path = run["links"]["self"]
    try:
        while run["state"] == "RUNNING":
            time.sleep(_POLL_S)
            run = client.get(path)
    except KeyboardInterrupt:
        typer.echo(f"ebs: the redrive continues; `ebs redrive --cancel {run['id']}` ends it", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    return run


def _json_of(payload: str) -> Any:
    try:
        return json.loads(payload)
    except ValueError as error:
        raise typer.BadParameter(f"--payload is not JSON: {error}") from None
