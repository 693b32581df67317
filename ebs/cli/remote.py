"""What commands that ask the API share: its address, and answers for people or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.telemetry.plain_text import plain, plain_json
from ebs.cli.client import ApiClient
from ebs.client.settings import client_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table

_WIDTH_WITHOUT_TERMINAL = 200  # a pipe has none, and the default of 80 would cut ids in two

Api = Annotated[
    str | None,
    typer.Option("--api", envvar="EBS_API_URL", metavar="URL", help="Where the API is."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's answer as JSON.")]
Cursor = Annotated[
    str | None, typer.Option("--cursor", metavar="CURSOR", help="Continue here: `next_cursor` of the previous page.")
]


def open_api(context: typer.Context, url: str | None) -> ApiClient:
    """Return a client of the API; a test hands its transport in as the context's `obj`."""
    settings = client_settings(url)
    return ApiClient(settings.api_url, key=settings.api_key, transport=context.obj, say=say)


def say(line: str) -> None:
    """Tell the person at the terminal, beside what a command prints."""
    typer.echo(f"ebs: {plain(line)}", err=True)


def all_pages(client: ApiClient, path: str, items: str, *, limit: int, cursor: str = "cursor") -> dict[str, Any]:
    """Ask for all `items` behind a path, `limit` a page; returns the last answer, with all of them.

    The next page is asked for by `cursor`, which an answer calls `next_<cursor>`.
    """
    answer: dict[str, Any] = client.get(path, limit=limit)
    while answer[f"next_{cursor}"] is not None:
        more = client.get(path, limit=limit, **{cursor: answer[f"next_{cursor}"]})
        answer = {**more, items: answer[items] + more[items]}
    return answer


def show(answer: Any, *shown: RenderableType, as_json: bool) -> None:
    """Print an answer: as JSON, or what people are `shown` of it."""
    if as_json:
        typer.echo(plain_json(json.dumps(answer, ensure_ascii=False)))
        return
    from rich.console import Console

    # Reasons and names are texts of users: [brackets] in them are not markup.
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    for part in shown:
        console.print(plain(part) if isinstance(part, str) else part)


def show_with_warnings(answer: Mapping[str, Any], *shown: RenderableType, as_json: bool) -> None:
    """Print an answer as `show` does, and its warnings on stderr."""
    show(answer, *shown, as_json=as_json)
    for warning in answer.get("warnings", ()):
        typer.secho(f"warning: {plain(warning)}", fg=typer.colors.YELLOW, err=True)


def table_of(title: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table; numbers are aligned right, None is a dash."""
    from rich.table import Table

    table = Table(title=plain(title))
    listed = [list(row) for row in rows]
    for number, heading in enumerate(headings):
        numeric = any(isinstance(row[number], int | float) for row in listed)
        table.add_column(plain(heading), justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        # Every cell, so that no text of a user is forgotten.
        table.add_row(*("-" if cell is None else plain(str(cell)) for cell in row))
    return table
