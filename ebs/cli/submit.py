"""`ebs submit`: submits one object, many copies of it, or the objects of a file; `--wait` waits for their end."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.telemetry.plain_text import plain
from ebs.cli.content import Tasks, content_of, json_content_of
from ebs.cli.instants import duration_s, zoned_instant
from ebs.cli.object_waits import Ends, Timeout, wait_for_all
from ebs.cli.outcomes import outcome_lines, outcome_of, shown_ids
from ebs.cli.remote import Api, AsJson, open_api, show
from ebs.cli.sending import Sent, send_count, send_lines, send_one
from ebs.cli.submit_file import objects_in
from ebs.delays import MAX_DELAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ebs.cli.client import ApiClient

_MAX_COUNT = 10_000_000
_IDS_SHOWN = 10
_REFUSED_SHOWN = 20
_STDIN = Path("-")
_LINE = re.compile(r"\Aline \d+ ")


def submit(
    context: typer.Context,
    *,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, max=_MAX_COUNT, help="Submit this many copies.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="Name of the object.")] = None,
    content: Annotated[
        str | None,
        typer.Option(
            "--content",
            metavar="TEXT",
            help="Content of the object: a text; @FILE reads a file (a .json file is JSON), - reads stdin as text, "
            "@@ stands for one @.",
        ),
    ] = None,
    content_json: Annotated[
        str | None,
        typer.Option(
            "--content-json", metavar="JSON", help="Content of the object as JSON; @FILE reads a file, - reads stdin."
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Kind of the object.")] = None,
    tasks: Tasks = None,
    callback_url: Annotated[
        str | None,
        typer.Option("--callback-url", metavar="URL", help="Where ebs sends the end of the object, see Callbacks."),
    ] = None,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="DURATION", help="Start the tasks later: 30s, 10m, 2h or 1d.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Start the tasks at this time: 2027-01-01T09:00 is local time."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="Whose work it is, such as a customer: limits by key count by it."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="File of objects: one as JSON, an array, or one per line (NDJSON); - reads stdin.",
            dir_okay=False,
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="Makes it safe to repeat the command with the same key."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until all objects have ended; exit code 1 if one failed.")
    ] = False,
    timeout: Timeout = None,
    id_only: Annotated[bool, typer.Option("--id-only", help="Print nothing but the ids, one per line.")] = False,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Submit one object, many copies of it, or a file of objects.

    --count submits copies of one object, --file submits the objects in a file. To give each task its own content, use
    --file: in the file, the field `tasks` of an object can be a list of items, each with a `content`.

    --wait shows the result of an object's join. If an object failed, it shows the errors of its tasks and the command
    that shows more.
    """
    if id_only and as_json:
        raise typer.BadParameter("give --id-only or --json")
    given: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "tasks": tasks,
        "callback_url": callback_url,
        "delay_s": None if delay is None else duration_s(delay),
        "due_at": None if at is None else zoned_instant(at),
        "key": key,
    }
    given = {field: value for field, value in given.items() if value is not None}
    if given.get("delay_s", 0) > MAX_DELAY_S:
        raise typer.BadParameter(f"{delay} is more than a year ({MAX_DELAY_S // 86_400}d)", param_hint="--delay")
    if file is not None and (given or any(one is not None for one in (count, content, content_json))):
        raise typer.BadParameter("--file contains whole objects: leave out --count, --name and the like")
    given |= _content(content, content_json)
    with open_api(context, api) as client, ExitStack() as stack:
        if file is not None:
            pieces = send_lines(client, _open(file, stack), idempotency_key)
        elif count is not None:
            pieces = (Sent(ids, []) for ids in send_count(client, given, count, idempotency_key))
        else:
            pieces = iter([Sent([send_one(client, given, idempotency_key)], [])])
        sent = _send(pieces, print_ids=id_only)
        _tell_refused(sent.refused, as_json=as_json)
        if not (id_only or as_json):
            _tell(_words(sent), err=False)
        ends = _wait(client, sent.ids, timeout) if wait else None
        outcomes = [] if ends is None else [outcome_of(client, one) for one in shown_ids(sent.ids, ends)]
    if as_json:
        show(_answer(sent, ends, outcomes), as_json=True)
    elif ends is not None:
        # Behind --id-only stdout is for programs.
        _tell(_end_words(ends, outcomes), err=id_only)
    if sent.refused or (ends is not None and not ends.all_finished):
        raise typer.Exit(1)


def _content(text: str | None, json_text: str | None) -> dict[str, Any]:
    if text is not None and json_text is not None:
        raise typer.BadParameter("give --content or --content-json")
    if text is not None:
        return {"content": content_of(text)}
    return {} if json_text is None else {"content": json_content_of(json_text)}


def _open(file: Path, stack: ExitStack) -> Iterator[bytes]:
    if file == _STDIN:
        return objects_in(sys.stdin.buffer)
    try:
        return objects_in(stack.enter_context(file.open("rb")))
    except OSError as error:
        raise typer.BadParameter(f"--file {file} cannot be read: {error.strerror}") from None


def _send(pieces: Iterator[Sent], *, print_ids: bool) -> Sent:
    total = Sent([], [])
    for piece in pieces:
        # At once: if a later piece fails, the ids of what is stored are known.
        for object_id in piece.ids if print_ids else ():
            typer.echo(object_id)
        total.ids.extend(piece.ids)
        total.refused.extend(piece.refused)
    return total


def _wait(client: ApiClient, ids: list[str], timeout_s: float | None) -> Ends:
    from rich.console import Console

    from ebs.cli.bars import EndedBar

    with EndedBar(Console(stderr=True)) as bar:
        return wait_for_all(client, ids, timeout_s, on_progress=bar)


def _tell_refused(refused: list[dict[str, Any]], *, as_json: bool) -> None:
    for one in [] if as_json else refused[:_REFUSED_SHOWN]:
        # A line's number is that of the file, where the API counts those of one request.
        detail = _LINE.sub("it ", one.get("detail", str(one["status"])))
        typer.secho(f"line {one['line']}: {plain(detail)}", fg=typer.colors.RED, err=True)


def _tell(lines: Iterable[str], *, err: bool) -> None:
    for line in lines:
        typer.echo(plain(line), err=err)


def _answer(sent: Sent, ends: Ends | None, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = {"count": len(sent.ids), "ids": sent.ids, "refused": sent.refused}
    if ends is not None:
        answer |= {"finished": ends.finished, "failed": ends.failed, "cancelled": ends.cancelled, "open": ends.open}
        answer["objects"] = outcomes
    return answer


def _words(sent: Sent) -> Iterator[str]:
    if len(sent.ids) <= _IDS_SHOWN:
        yield from (f"object {object_id}: `ebs status {object_id}` shows it" for object_id in sent.ids)
    else:
        yield f"{len(sent.ids)} objects accepted, the first is {sent.ids[0]}: `ebs watch` shows their progress"
    if sent.refused:
        yield f"{len(sent.refused)} were not accepted"


def _end_words(ends: Ends, outcomes: list[dict[str, Any]]) -> Iterator[str]:
    for outcome in outcomes:
        yield from outcome_lines(outcome)
    yield ends.words()
