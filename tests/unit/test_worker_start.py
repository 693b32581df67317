"""How a worker ends that cannot start."""

from __future__ import annotations

import subprocess
import sys

from app.streaming.application import EXIT_STEP_FAILED

START_WITHOUT_BROKER = """
import asyncio
import logging
from types import SimpleNamespace
from aiokafka.errors import KafkaConnectionError
from app.streaming.application import StreamingApp

async def succeed():
    pass

async def fail():
    raise KafkaConnectionError("the broker has just gone")

app = SimpleNamespace(
    watchdog=SimpleNamespace(watch=lambda name, loop: None, start=lambda: None),
    web=SimpleNamespace(maybe_start=succeed),
    preflight=succeed,
    transactions=SimpleNamespace(start=fail),
)
logging.basicConfig()
asyncio.run(StreamingApp.on_start(app))
"""


def test_broker_that_goes_while_a_worker_starts_is_no_wrong_setting():
    """A supervisor gives up after three exit codes 1, which say that starting again does not help."""
    done = subprocess.run([sys.executable, "-c", START_WITHOUT_BROKER], capture_output=True, text=True, check=False)
    assert EXIT_STEP_FAILED == done.returncode, done.stderr
    assert "the broker has just gone" in done.stderr
