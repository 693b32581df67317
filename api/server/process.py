"""What makes the API a process: its log, and how it ends when it cannot work."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING

from app.errors import EbsError, ForeignTopics
from app.telemetry.log_format import LOG_FORMAT
from app.telemetry.plain_text import keep_logs_plain, plain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)

_EXIT_CONFIGURATION, _EXIT_UNDECIDED = 1, 74
"""The same codes as of workers (`app.streaming.application`)."""
_LEVELS = {"crit": logging.CRITICAL, "error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO}


def configure_log(level: str) -> None:
    """Write our log to stderr; `level` is one of the settings' names."""
    keep_logs_plain()
    logging.basicConfig(level=_LEVELS.get(level, logging.DEBUG), format=LOG_FORMAT)
    if level != "debug":
        # It reports each attempt to reach a broker that is away, several lines a second; we say it in one.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class Shared:
    """Runs a coroutine function once for all who ask while it runs."""

    def __init__(self, run: Callable[[], Awaitable[object]]) -> None:
        self._run = run
        self._running: asyncio.Task[object] | None = None

    async def __call__(self) -> object:
        """Wait for the run that is under way, or start one."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._run())
        # One who gives up must not take the others' run with him.
        return await asyncio.shield(self._running)


async def guarded(run: Callable[[], Awaitable[None]], end: Callable[[str, int], None]) -> None:
    """Run a part of the process; if it cannot work, say why in one line and `end` the process."""
    try:
        await run()
    except ForeignTopics as error:
        end(str(error), _EXIT_UNDECIDED)
    except (EbsError, OSError) as error:
        end(str(error), _EXIT_CONFIGURATION)
    except Exception:  # noqa: BLE001  # it is logged, and ends the process
        # A part that died quietly would leave a process that answers and does nothing.
        _log.exception("a part of the API failed")
        end("a part of the API failed; the lines above say why", _EXIT_CONFIGURATION)


def exit_process(reason: str, code: int) -> None:
    """End at once. Nothing is lost: the view's store is a copy, and the broker has what was accepted."""
    print(f"error: {plain(reason)}", file=sys.stderr, flush=True)  # noqa: T201  # the last words, whatever the log level
    # sys.exit in a task leaves the server's shutdown to chance and prints a traceback.
    os._exit(code)
