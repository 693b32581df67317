"""`ebs submit`: submits one object, many copies of it, or the objects of a file; `--wait` waits for their end."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.events import MAX_TASKS
from app.telemetry.plain_text import plain
from ebs.cli.content import content_of, json_content_of
from ebs.cli.remote import Api, AsJson, open_api, show
from ebs.cli.sending import Sent, send_count, send_lines, send_one
from ebs.cli.submit_file import objects_in
from ebs.cli.waiting import Ends, Timeout, wait_for_all

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    tasks: Annotated[
        int | None, typer.Option("--tasks", metavar="N", min=1, max=MAX_TASKS, help="Number of tasks of the object.")
    ] = None,
    callback_url: Annotated[
        str | None,
        typer.Option("--callback-url", metavar="URL", help="Where ebs sends the end of the object, see Callbacks."),
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
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Submit one object, many copies of it, or a file of objects.

    --count submits copies of one object, --file submits the objects in a file. To give each task its own content, use
    --file: in the file, the field `tasks` of an object can be a list of items, each with a `content`.
    """
    if content is not None and content_json is not None:
        raise typer.BadParameter("give --content or --content-json")
    fields = {
        "name": name,
        "content": content_json if content is None else content,
        "kind": kind,
        "tasks": tasks,
        "callback_url": callback_url,
    }
    given = {field: value for field, value in fields.items() if value is not None}
    if file is not None and (given or count is not None):
        raise typer.BadParameter("--file contains whole objects: leave out --count, --name and the like")
    if content is not None:
        given["content"] = content_of(content)
    if content_json is not None:
        given["content"] = json_content_of(content_json)
    with open_api(context, api) as client, ExitStack() as stack:
        if file is not None:
            pieces = send_lines(client, _open(file, stack), idempotency_key)
        elif count is not None:
            pieces = (Sent(ids, []) for ids in send_count(client, given, count, idempotency_key))
        else:
            pieces = iter([Sent([send_one(client, given, idempotency_key)], [])])
        sent = _send(pieces)
        ends = _wait(client, sent.ids, timeout) if wait else None
    _show(sent, ends, as_json=as_json)
    if sent.refused or (ends is not None and not ends.all_finished):
        raise typer.Exit(1)


def _open(file: Path, stack: ExitStack) -> Iterator[bytes]:
    if file == _STDIN:
        return objects_in(sys.stdin.buffer)
    try:
        return objects_in(stack.enter_context(file.open("rb")))
    except OSError as error:
        raise typer.BadParameter(f"--file {file} cannot be read: {error.strerror}") from None


def _send(pieces: Iterator[Sent]) -> Sent:
    total = Sent([], [])
    for piece in pieces:
        total.ids.extend(piece.ids)
        total.refused.extend(piece.refused)
    return total


def _wait(client: ApiClient, ids: list[str], timeout_s: float | None) -> Ends:
    from rich.console import Console

    from ebs.cli.bars import EndedBar

    with EndedBar(Console(stderr=True)) as bar:
        return wait_for_all(client, ids, timeout_s, on_progress=bar)


def _show(sent: Sent, ends: Ends | None, *, as_json: bool) -> None:
    for one in [] if as_json else sent.refused[:_REFUSED_SHOWN]:
        # A line's number is that of the file, where the API counts those of one request.
        detail = _LINE.sub("it ", one.get("detail", str(one["status"])))
        typer.secho(f"line {one['line']}: {plain(detail)}", fg=typer.colors.RED, err=True)
    answer: dict[str, Any] = {"count": len(sent.ids), "ids": sent.ids, "refused": sent.refused}
    if ends is not None:
        answer |= {"finished": ends.finished, "failed": ends.failed, "cancelled": ends.cancelled, "open": ends.open}
    show(answer, *_words(sent, ends), as_json=as_json)


def _words(sent: Sent, ends: Ends | None) -> Iterator[str]:
    if len(sent.ids) <= _IDS_SHOWN:
        yield from (f"object {object_id}: `ebs status {object_id}` shows it" for object_id in sent.ids)
    else:
        yield f"{len(sent.ids)} objects accepted, the first is {sent.ids[0]}: `ebs watch` shows their progress"
    if sent.refused:
        yield f"{len(sent.refused)} were not accepted"
    if ends is not None:
        yield ends.words()
