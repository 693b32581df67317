"""The output of programs: a file for each program has everything, the terminal shows only the important lines.

On the terminal are the events of a program's life (started, restarts because, stopped), warnings and errors of ours and
of handlers, and, after a crash, its last lines, unless the life before ended with the same. `verbose` shows every line.
"""

from __future__ import annotations

import re
from collections import deque
from logging import LogRecord, makeLogRecord
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, NamedTuple

from app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MAX_FILE_BYTES = 10 * 1_048_576
_LAST_LINES = 10
_MAX_REMEMBERED = 100
_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?P<level>[A-Z]+) (?P<logger>[^ :]+): (?P<text>.*)")
"""How our processes log (`app.telemetry.log_format`)."""
_OF_UVICORN = re.compile(r"(?P<level>[A-Z]+): +(?P<text>.*)")
_LAST_WORDS = "error: "
_PRINTED = "mode.redirect"
"""The logger that Faust gives what handlers print."""
_LIBRARIES = frozenset({"aiokafka", "asyncio", "faust", "mode", "uvicorn"})
_WARNINGS = frozenset({"WARNING", "ERROR", "CRITICAL"})


class _File(RotatingFileHandler):
    def handleError(self, record: LogRecord) -> None:  # noqa: N802  # logging's name
        """Lose the line: a full disk must not stop the programs."""


class _Program(NamedTuple):
    """A program's file, its last lines that were not shown, and what was shown of this life and of the one before."""

    file: _File
    unseen: deque[str]
    shown: set[str]
    shown_before: set[str]

    def end_life(self) -> None:
        self.unseen.clear()
        self.shown_before.clear()
        self.shown_before.update(self.shown)
        self.shown.clear()


class ProgramLog:
    """Takes the lines and events of all programs; `terminal(role, line)` writes what people see.

    `on_gone()` is called when nobody reads the terminal any more, as in `ebs up | head`; then `is_gone`. Without
    `tells_lives` the terminal gets no events but crashes.
    """

    def __init__(
        self,
        directory: Path,
        terminal: Callable[[str, str], None],
        *,
        on_gone: Callable[[], None],
        verbose: bool = False,
        tells_lives: bool = True,
    ) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"EBS_DATA_DIR: {directory} cannot be made ({error.strerror}): choose another directory with --data-dir"
            ) from None
        self.directory = directory
        self.is_gone = False
        self._terminal = terminal
        self._on_gone = on_gone
        self._verbose = verbose
        self._tells_lives = tells_lives
        self._programs: dict[str, _Program] = {}
        self._continues: set[str] = set()

    def line(self, role: str, line: str) -> None:
        """Take a line that a program said."""
        program = self._program(role)
        program.file.emit(makeLogRecord({"msg": line}))
        shown = line if self._verbose else self._shown(role, line)
        if shown is not None:
            self._write_once(role, program, shown)
        elif not _is_talk(line):
            program.unseen.append(line)

    def event(self, role: str, text: str, *, crashed: bool = False) -> None:
        """Take an event of a program's life; of a crash the last lines are shown that were not seen yet."""
        program = self._program(role)
        program.file.emit(makeLogRecord({"msg": f"-- {text}"}))
        if crashed:
            for line in program.unseen:
                self._write_once(role, program, f"    {line}")
            text = f"{text}; its log: {self.directory / role}.log"
            program.end_life()
        program.unseen.clear()
        if crashed or self._tells_lives:
            self._write(role, text)

    def close(self) -> None:
        """Close the files."""
        for program in self._programs.values():
            program.file.close()

    def _write_once(self, role: str, program: _Program, line: str) -> None:
        """Write a line, unless the life before said the same: a crash loop has one reason."""
        is_known = line in program.shown_before
        program.shown_before.discard(line)
        if len(program.shown) < _MAX_REMEMBERED:
            program.shown.add(line)
        if self._verbose or not is_known:
            self._write(role, line)

    def _write(self, role: str, line: str) -> None:
        try:
            self._terminal(role, line)
        except BrokenPipeError:
            self.is_gone = True
            self._on_gone()

    def _program(self, role: str) -> _Program:
        if role not in self._programs:
            path = self.directory / f"{role}.log"
            file = _File(
                path, maxBytes=_MAX_FILE_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace", delay=True
            )
            self._programs[role] = _Program(file, deque(maxlen=_LAST_LINES), set(), set())
        return self._programs[role]

    def _shown(self, role: str, line: str) -> str | None:
        """Return a line as the terminal shows it, None if it does not."""
        if line.startswith((" ", "\t", "Traceback (most recent call last)")) and role in self._continues:
            return line
        shown = shown_of(line)
        (self._continues.discard if shown is None else self._continues.add)(role)
        return shown


def _is_talk(line: str) -> bool:
    """Return whether a line says nothing of a crash: a blank one, or a record below WARNING."""
    found = _LINE.fullmatch(line) or _OF_UVICORN.fullmatch(line)
    return found["level"] not in _WARNINGS if found else not line.strip()


def shown_of(line: str) -> str | None:
    """Return the first line of a record as people see it, None for what they need not see.

    Of libraries only errors are shown, of aiokafka nothing: it reports each attempt to reach a broker that is away, and
    our processes say that in one line.
    """
    ours, uvicorn = _LINE.fullmatch(line), _OF_UVICORN.fullmatch(line)
    if ours is not None:
        level, logger, text = ours["level"], ours["logger"], ours["text"]
    elif uvicorn is not None:
        level, logger, text = uvicorn["level"], "uvicorn", uvicorn["text"]
    else:
        return line if line.startswith(_LAST_WORDS) else None
    if logger == _PRINTED:
        return text
    library = logger.partition(".")[0]
    if level not in _WARNINGS or library == "aiokafka" or (library in _LIBRARIES and level == "WARNING"):
        return None
    return f"{level.lower()}: {text}"
