"""Ports of workers' own pages: each of a machine's workers finds one without being told, started at once or not."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from ebs.local.ports import is_free

from app.process import forked

FIRST_WEB_PORT = 6066
_TRIES = 200
_MAX_PORT = 65_535


def reserve_web_port(first: int = FIRST_WEB_PORT) -> int | None:
    """Return the first port from `first` on that is free and that no other process has reserved; None: all are taken.

    The port is bound only later, by Faust; a lock that this process holds until it ends keeps the others off it.
    """
    for port in range(first, min(first + _TRIES, _MAX_PORT + 1)):
        if _reserve(port):
            return port
    return None


def _reserve(port: int) -> bool:
    path = Path(tempfile.gettempdir()) / f"ebs-web-port-{port}.lock"
    try:
        lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError:
        return False  # another user's, who may have reserved it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = is_free(port, "0.0.0.0")
    except OSError:
        is_ours = False
    if is_ours:
        forked.private.append(lock)
    else:
        os.close(lock)
    return is_ours
