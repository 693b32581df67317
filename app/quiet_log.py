"""A log that one can read while the broker is away: aiokafka tells every attempt to reach it, dozens a second."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_KNOWN = 1_000


class OneOfThoseAlike(logging.Filter):
    """Lets a library's warning or error through once every `silence_s`; the next one says how many were left out.

    Put on a handler: a logger's own filters do not see what its children log.
    """

    def __init__(self, library: str, silence_s: float = 5.0, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(library)
        self._silence_s = silence_s
        self._clock_s = clock_s
        # By logger and text: when it was told last, and how many were not since.
        self._known: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        if record.levelno < logging.WARNING or not super().filter(record):
            return True
        text, now_s = record.getMessage(), self._clock_s()
        told_at_s, untold_count = self._known.get((record.name, text), (now_s - self._silence_s, 0))
        if now_s - told_at_s < self._silence_s:
            self._known[record.name, text] = (told_at_s, untold_count + 1)
            return False
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[record.name, text] = (now_s, 0)
        if untold_count:
            record.msg, record.args = f"{text} ({untold_count} alike before it)", ()
        return True
