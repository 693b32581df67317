"""Limits repeated log lines, so that the log stays readable while the same error comes again and again."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_MAX_KNOWN = 1_000


class Alike:
    """Decides which of many things that are alike is told: one every `silence_s`. It remembers a bounded number."""

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        # When one was told last, and how many were not since.
        self._known: dict[Hashable, tuple[float, int]] = {}

    def untold_before(self, name: Hashable, now_s: float) -> int | None:
        """Return how many were left out before this one, which is to be told; None: it is left out, too."""
        told_at_s, untold_count = self._known.get(name, (float("-inf"), 0))
        if now_s - told_at_s < self._silence_s:
            self._known[name] = (told_at_s, untold_count + 1)
            return None
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[name] = (now_s, 0)
        return untold_count


def alike_before(untold_count: int) -> str:
    """Return what a line says at its end of those that were left out before it."""
    return f" ({untold_count} alike before it)" if untold_count else ""


class OneOfThoseAlike(logging.Filter):
    """Lets a library's warning or error through once every `silence_s`; the next one says how many were left out.

    aiokafka tells every attempt to reach a broker that is away, dozens a second. Put on a handler: a logger's own
    filters do not see what its children log.
    """

    def __init__(self, library: str, silence_s: float = 5.0, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(library)
        self._clock_s = clock_s
        self._alike = Alike(silence_s)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        if record.levelno < logging.WARNING or not super().filter(record):
            return True
        text = record.getMessage()
        untold_count = self._alike.untold_before((record.name, text), self._clock_s())
        if untold_count is None:
            return False
        if untold_count:
            record.msg, record.args = text + alike_before(untold_count), ()
        return True
