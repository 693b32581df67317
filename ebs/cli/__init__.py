"""The `ebs` command. Each subcommand is a function in a module of this package; `commands.py` lists them.

Exit codes: 0 done, 1 could not be done (one red line says why), 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from app.errors import EbsError
from app.telemetry.plain_text import plain_lines
from ebs.cli.commands import HELP_NAMES, AllCommands

cli = typer.Typer(
    name="ebs", cls=AllCommands, no_args_is_help=True, pretty_exceptions_enable=False, context_settings=HELP_NAMES
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  # the signature of a typer callback
    if not wanted:
        return
    from app.process.version import installed_version

    number = installed_version()
    typer.echo("ebs, run from its source tree without being installed" if number is None else f"ebs {number}")
    raise typer.Exit


@cli.callback()
def ebs(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,  # typer's way to make a flag
) -> None:
    """Submit objects over HTTP, run their tasks on any number of Kafka workers, count every result exactly once."""


def main() -> None:
    """Run the command line; the entry point of the `ebs` program."""
    try:
        cli()
    except EbsError as error:
        typer.secho(f"ebs: {plain_lines(str(error))}", fg=typer.colors.RED, err=True)
        sys.exit(1)
    except BrokenPipeError:
        # As in `ebs up | head`. Python flushes stdout once more when it ends, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
