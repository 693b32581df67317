"""A worker whose time of day is what a file says: so many seconds ahead of the machine's. For tests only.

It runs as `faust -A shifted worker`, told by its environment: SHIFTED_ROLE (whose app this is), SHIFTED_FILE (path of
the file; without it the clock is right). The clock is set within 50 ms, and the log says so. What is monotonic stays.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from pathlib import Path

FILE = Path(os.environ["SHIFTED_FILE"])
_POLL_S = 0.05

log = logging.getLogger(__name__)
_time, _time_ns = time.time, time.time_ns
_ahead_s = 0


def follow_file() -> None:
    """Set the clock whenever the file changes."""
    global _ahead_s  # noqa: PLW0603  # a whole process has one clock
    while True:
        text = FILE.read_text() if FILE.exists() else ""
        if text and int(text) != _ahead_s:
            _ahead_s = int(text)
            log.warning("the clock is %+d s ahead", _ahead_s)
        time.sleep(_POLL_S)


# Before the app is made: its watchdog would put other clocks back.
time.time = lambda: _time() + _ahead_s
time.time_ns = lambda: _time_ns() + _ahead_s * 1_000_000_000
app = importlib.import_module(f"agents.{os.environ['SHIFTED_ROLE']}").app
threading.Thread(target=follow_file, daemon=True).start()
