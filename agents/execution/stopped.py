"""Finds processes of handlers that have stopped themselves (SIGSTOP): they would last until the time limit."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)


class StoppedProcesses:
    """Kills what it sees stopped at two looks in a row: a whole group that goes on after a stop does so one by one."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def look(self, pids: Iterable[int]) -> None:
        """Look once."""
        stopped = {pid for pid in pids if _is_stopped(pid)}
        for pid in stopped & self._seen:
            log.warning("the process %d of a handler was stopped (SIGSTOP) and is killed", pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._seen = stopped


def _is_stopped(pid: int) -> bool:
    """Return whether a process is stopped, as Linux tells; one under a debugger is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state == "T"
