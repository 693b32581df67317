"""The output of several programs on one terminal: each line begins with the name of its role."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import StreamReader
    from collections.abc import AsyncIterator, Iterable

_COLOURS = (36, 32, 35, 33, 34, 96, 92, 95)  # ANSI foregrounds; red is kept for errors
_CHUNK_BYTES = 65_536
_LONGEST_LINE_BYTES = 1_048_576


class PrefixedOutput:
    """Writes `role | line`, aligned; in colours on a terminal, unless NO_COLOR is set (no-color.org)."""

    def __init__(self, stream: IO[str], roles: Iterable[str], *, colour: bool | None = None) -> None:
        names = list(roles)
        self._stream = stream
        self._width = max(map(len, names), default=0)
        self._colour_of = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
        self._colour = stream.isatty() and "NO_COLOR" not in os.environ if colour is None else colour

    def __call__(self, role: str, line: str) -> None:
        """Write one line."""
        prefix = f"{role:<{self._width}} |"
        if self._colour:
            prefix = f"\x1b[{self._colour_of.get(role, 37)}m{prefix}\x1b[0m"
        self._stream.write(f"{prefix} {line}\n")
        self._stream.flush()


async def lines_of(stream: StreamReader) -> AsyncIterator[str]:
    """Yield the lines of a program's output, whatever bytes and however long; the last one needs no line end."""
    rest = b""
    while chunk := await stream.read(_CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE_BYTES:  # no line end in sight: do not keep the whole stream in memory
            lines, rest = [*lines, rest], b""
        for line in lines:
            yield line.decode(errors="replace").rstrip("\r")
    if rest:
        yield rest.decode(errors="replace")
