"""Makes foreign text safe for a terminal or a log: no escape codes, and no lines that look like ours.

Names, errors and ids come from clients. An escape code could hide output, a line break could forge a line.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any

# Control characters of both sorts (C0, C1), line separators, and what turns the direction of writing; lone surrogates
# cannot be written at all.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_STEERING_BUT_LINES = re.compile("(?![\n\t])" + _STEERING.pattern)
_STEERING_IN_JSON = re.compile("(?!\n)" + _STEERING.pattern)


def plain(text: str) -> str:
    """Return a text with what would steer a terminal written out in ASCII, line breaks included."""
    return _STEERING.sub(_written_out, text)


def plain_lines(text: str) -> str:
    """Return the same with its line breaks; later lines are indented, so that none looks like ours."""
    first, *others = _STEERING_BUT_LINES.sub(_written_out, text).split("\n")
    return "\n".join([first, *(f"    {line}" for line in others)])


def plain_json(text: str) -> str:
    """Return JSON that means the same, with what would steer a terminal as JSON escapes."""
    return _STEERING_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class PlainRecord(logging.LogRecord):
    """A record whose text is plain; lines that follow the first one are indented, so that none looks like a record."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[0] is not None:
            # Formatters take it from here instead of making it.
            self.exc_text = plain_lines("".join(traceback.format_exception(*self.exc_info)).rstrip("\n"))

    def getMessage(self) -> str:  # noqa: N802  # logging's name
        """Return the message."""
        message = super().getMessage()
        # uvicorn colours what it says of itself, for terminals; nothing of others is in it.
        return message if self.msg is self.__dict__.get("color_message") else plain_lines(message)


def keep_logs_plain() -> None:
    """Let all records of this process be plain, whichever handler or formatter they go to."""
    logging.setLogRecordFactory(PlainRecord)


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(found[0])
    return named or (f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}")
