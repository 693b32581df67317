"""The content of an object as people give it on the command line: a text, a file, or what a pipe brings."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import typer

MAX_BYTES = 64 * 1_048_576
"""More than any API takes (`EBS_MAX_BODY_BYTES`): a device without an end must not fill the memory."""

_STDIN = frozenset({"-", "@-"})


def content_of(given: str) -> str:
    """Return the text that `--content` means. Raises `typer.BadParameter`, which is exit code 2.

    `@FILE` is what the file holds, `-` or `@-` what stdin holds, `@@...` a text that begins with one `@`.
    """
    if given in _STDIN:
        return _read(None)
    if given.startswith("@@"):
        return given[1:]
    return _read(given[1:]) if given.startswith("@") else given


def _read(name: str | None) -> str:
    if name == "":
        raise typer.BadParameter("--content @ names no file: give @FILE, or @@ for a text that begins with @")
    shown = "stdin" if name is None else f"@{name}"
    try:
        with nullcontext(sys.stdin.buffer) if name is None else Path(name).expanduser().open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: a ~user that does not exist
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "" if name is None else "; for a text that begins with @ give @@"
        raise typer.BadParameter(f"--content {shown} cannot be read ({reason}){hint}") from None
    if len(data) > MAX_BYTES:
        raise typer.BadParameter(f"--content {shown} is over {MAX_BYTES:,} bytes: submit a reference to it instead")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(
            f"--content {shown} is not UTF-8 text (at byte {error.start:,}): encode it first, for example with base64"
        ) from None
