"""A worker that hangs as soon as a file says so. For tests only.

It runs as `faust -A stalled worker`, told by its environment: STALLED_ROLE (whose app this is), STALLED_MARKER (path of
the file), STALLED_PART: `fetching` (aiokafka's fetch loop ends), `loop` (the event loop blocks), `consumer` (the
consumer's thread blocks), `commit` (a commit never ends). It hangs in its first life only: it removes the file.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
import time
from pathlib import Path
from typing import Any

from app.kafka.transactional_producer import TransactionalProducer

PART = os.environ["STALLED_PART"]
MARKER = Path(os.environ["STALLED_MARKER"])
_LONG_S = 600

app = importlib.import_module(f"agents.{os.environ['STALLED_ROLE']}").app
_commit = TransactionalProducer.commit_transaction


def is_told() -> bool:
    """Return whether the file is there, once."""
    there = MARKER.exists()
    MARKER.unlink(missing_ok=True)
    return there


async def commit(self: TransactionalProducer) -> None:
    """Commit, unless the file is there: then never."""
    if is_told():
        await asyncio.sleep(_LONG_S)
    await _commit(self)


def hang_when_told() -> None:
    """Wait for the file, then break the part."""
    while not is_told():
        time.sleep(0.05)
    thread: Any = app.consumer._thread
    if PART == "fetching":
        thread.thread_loop.call_soon_threadsafe(thread._consumer._fetcher._fetch_task.cancel)
    elif PART == "consumer":
        thread.thread_loop.call_soon_threadsafe(time.sleep, _LONG_S)
    else:
        app.loop.call_soon_threadsafe(time.sleep, _LONG_S)


if PART == "commit":
    TransactionalProducer.commit_transaction = commit
else:
    threading.Thread(target=hang_when_told, daemon=True).start()
