"""Lines of an NDJSON body as it comes in, with their numbers; a line over the limit is reported and not kept."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """A line that is not blank; `number` is from 1, `text` None: it is over the limit."""

    number: int
    text: bytes | None


class LineSplitter:
    """Cuts a stream of bytes into lines; holds at most one line, and no more of it than `max_line_bytes`."""

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._rest = bytearray()
        self._skipping = False
        self.number = 0
        """Of the last line that has ended."""

    def feed(self, chunk: bytes) -> list[Line]:
        """Return the lines that end in this chunk."""
        parts = chunk.split(b"\n")
        if len(parts) > 1:
            parts[0] = bytes(self._rest + parts[0])
            self._rest.clear()
        # Appended, not joined each time: a line may come in a million pieces.
        self._rest += parts.pop()
        lines = [line for part in parts if (line := self._line(part)) is not None]
        if len(self._rest) > self._max_line_bytes:
            self._rest.clear()
            self._skipping = True
        return lines

    @property
    def size_bytes(self) -> int:
        """How much of a line that has not ended is held."""
        return len(self._rest)

    def finish(self) -> list[Line]:
        """Return the last line, if no newline ended it."""
        if not self._rest and not self._skipping:
            return []
        line = self._line(bytes(self._rest))
        self._rest.clear()
        return [] if line is None else [line]

    def _line(self, text: bytes) -> Line | None:
        self.number += 1
        if self._skipping or len(text) > self._max_line_bytes:
            self._skipping = False
            return Line(self.number, None)
        text = text.strip()
        return Line(self.number, text) if text else None
