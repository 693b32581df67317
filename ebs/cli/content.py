"""The work of an object on the command line: its content (a text, JSON, a file, standard input), how many tasks."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from app.events import MAX_TASKS

MAX_BYTES = 64 * 1_048_576
"""More than any API takes (`EBS_MAX_BODY_BYTES`): a device without an end must not fill the memory."""

Tasks = Annotated[
    int | None,
    typer.Option(
        "--tasks",
        metavar="N",
        min=1,
        max=MAX_TASKS,
        help="Tasks, each with the whole content. Default: as the split says, else EBS_TASKS_PER_OBJECT (1).",
    ),
]

_STDIN = frozenset({"-", "@-"})


def content_of(given: str) -> Any:
    """Return the value of `--content`: a text, or the JSON value of a `.json` file. Raises `typer.BadParameter`.

    `@FILE` reads a file, `-` or `@-` reads stdin, `@@...` is a text that begins with one `@`.
    """
    if given.startswith("@") and given.lower().endswith(".json") and not given.startswith("@@"):
        return _decoded(_read(given[1:], "--content"), f"--content {given}", "to send its text, pipe it to --content -")
    if given in _STDIN:
        return _read(None, "--content")
    if given.startswith("@@"):
        return given[1:]
    if given.startswith("@"):
        return _read(given[1:], "--content")
    if given.lower().endswith(".json") and os.path.isfile(given):  # noqa: PTH113  # Path raises for a long text
        typer.echo(f"ebs: --content sends the text {given}; to send the file, write --content @{given}", err=True)
    return given


def json_content_of(given: str, option: str = "--content-json", hint: str = "--content sends a text") -> Any:
    """Return the JSON value that an option means: its text, `@FILE`, or `-`. Raises `typer.BadParameter`."""
    text = given
    if given in _STDIN or given.startswith("@"):
        text = _read(None if given in _STDIN else given[1:], option)
    return _decoded(text, option, hint)


def _decoded(text: str, option: str, hint: str) -> Any:
    import msgspec

    from app import json_text

    try:
        json_text.check(msgspec.Raw(text.encode("utf-8", "surrogatepass")))
    except msgspec.DecodeError as error:
        raise typer.BadParameter(f"{option} is not JSON: {error}; {hint}") from None
    return json_text.decode(text)


def _read(name: str | None, option: str) -> str:
    if name == "":
        raise typer.BadParameter(f"{option} @ names no file: give @FILE, or @@ for a text that begins with @")
    shown = "stdin" if name is None else f"@{name}"
    try:
        with nullcontext(sys.stdin.buffer) if name is None else Path(name).expanduser().open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: a ~user that does not exist
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "" if name is None or option != "--content" else "; for a text that begins with @ give @@"
        raise typer.BadParameter(f"{option} {shown} cannot be read ({reason}){hint}") from None
    if len(data) > MAX_BYTES:
        raise typer.BadParameter(f"{option} {shown} is over {MAX_BYTES:,} bytes: submit a reference to it instead")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(
            f"{option} {shown} is not UTF-8 text (at byte {error.start:,}): encode it first, for example with base64"
        ) from None
