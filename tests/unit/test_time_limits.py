"""A test that hangs fails, and says where, whatever it hangs in; the next one runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import time_limits

HANGING = """
import asyncio, time
import pytest, uvloop

uvloop.install()

@pytest.fixture
async def lasting():
    yield
    await asyncio.Event().wait()  # a fixture's end

async def test_in_the_loop():
    await asyncio.Event().wait()  # the loop

def test_in_a_loop_of_its_own():
    asyncio.run(asyncio.Event().wait())  # a loop of its own

async def test_in_a_fixture(lasting):
    pass

async def test_blocking_the_loop():
    time.sleep(1_000)  # blocks the loop

def test_without_a_loop():
    time.sleep(1_000)  # no loop

def test_next():
    pass
"""


def test_hang_fails_and_says_where(tmp_path: Path) -> None:
    """In a test, sync or not, and in a fixture."""
    path = tmp_path / "test_hanging.py"
    path.write_text(HANGING)
    options = ["-c", "/dev/null", "-p", "time_limits", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pytest", "--timeout", "1", *options, str(path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(time_limits.__file__).parent)},
        timeout=120,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "4 failed, 2 passed, 1 error" in run.stdout
    for line in ("# the loop", "# a loop of its own", "# a fixture's end", "# blocks the loop", "# no loop"):
        assert line in run.stdout
