"""`ebs run`: one object through a project's functions in this process, as `ebs.testing` runs it."""

from __future__ import annotations

import logging
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from app.errors import EbsError
from app.telemetry.plain_text import plain_json, plain_lines
from ebs.cli.content import Tasks, json_content_of

if TYPE_CHECKING:
    from ebs.testing import ObjectRun

_HINT = "a text needs quotes of its own, such as '\"apple\"'"


def run(
    project: Annotated[
        str, typer.Argument(metavar="MODULE", help="Module of your functions, such as shop.work; imported from here.")
    ],
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Kind of the object.")],
    content: Annotated[
        str | None,
        typer.Argument(metavar="CONTENT", help="Content of the object as JSON; @FILE reads a file, - reads stdin."),
    ] = None,
    *,
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="Name of the object.")] = "",
    tasks: Tasks = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole run as JSON.")] = False,
) -> None:
    """Run one object through a project here, without Kafka.

    Split, tasks and join run one after another, with the code of the workers. The pause before a retry takes no time.
    Nothing is stored. The exit code is 1 if the object failed.
    """
    value = None if content is None else json_content_of(content, "CONTENT", _HINT)
    _log_what_functions_say()
    # What functions print must not stand in the JSON.
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        done = _run(project, kind, value, tasks, name)
    if as_json:
        import json

        from ebs.testing.story import plain_run

        typer.echo(plain_json(json.dumps(plain_run(done), ensure_ascii=False)))
    else:
        from ebs.testing.story import story_of

        typer.echo("\n".join(map(plain_lines, story_of(done, stacks=True).split("\n"))))
    if done.state != "FINISHED":
        raise typer.Exit(1)


def _run(spec: str, kind: str, content: object, tasks: int | None, name: str) -> ObjectRun:
    from app.settings.project import load_project
    from ebs import testing

    project = load_project(spec, "MODULE ")
    try:
        return testing.run(project, kind, content, tasks=tasks, name=name)
    except testing.ObjectRefused as error:
        raise EbsError(f"the object is refused: {error}") from None


def _log_what_functions_say() -> None:
    """Show the lines of `context.log`; of the engine's own, what happens is told at the end."""
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
    logging.getLogger("ebs.task").setLevel(logging.INFO)
    logging.getLogger("agents").setLevel(logging.ERROR)
