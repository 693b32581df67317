"""The `ebs` command. Each subcommand is a function in a module of this package; here they get their names.

Exit codes: 0 done, 1 could not be done (one red line says why), 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from api.cli.control import cancel, concurrency, control, drain, pause, rate, resume
from api.cli.dead_letters import dead_letters
from api.cli.demo import demo
from api.cli.doctor import doctor
from api.cli.explain import explain
from api.cli.offsets import offsets
from api.cli.recount import recount
from api.cli.redrive import discard, redrive
from api.cli.stats import stats
from api.cli.status import status
from api.cli.submit import submit
from api.cli.tasks import tasks
from api.cli.topics import topics
from api.cli.up import up
from api.cli.watch import watch
from api.cli.workers import workers
from app.errors import EbsError
from app.plain_text import plain_lines

cli = typer.Typer(name="ebs", no_args_is_help=True, pretty_exceptions_enable=False)
cli.command()(up)
cli.command()(demo)
cli.command()(topics)
cli.command()(doctor)
cli.add_typer(offsets, name="offsets")
cli.command()(submit)
cli.command()(status)
cli.command()(watch)
cli.command()(stats)
cli.command()(recount)
cli.command()(tasks)
cli.command()(explain)
cli.command()(workers)
cli.command()(control)
cli.command()(pause)
cli.command()(resume)
cli.command()(cancel)
cli.command()(rate)
cli.command()(concurrency)
cli.command()(drain)
cli.add_typer(dead_letters, name="dead-letters")
cli.command()(redrive)
cli.command()(discard)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  # the signature of a typer callback
    if not wanted:
        return
    try:
        typer.echo(f"ebs {version('ebs')}")
    except PackageNotFoundError:
        typer.echo("ebs, run from its source tree without being installed")
    raise typer.Exit


@cli.callback()
def ebs(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,  # typer's way to make a flag
) -> None:
    """Objects in over HTTP, tasks out to any number of Kafka workers, every result counted exactly once."""


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
