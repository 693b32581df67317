"""A pytest plugin: the limit of pytest-timeout ends an event loop that hangs, too.

Of its own it raises from a signal handler. uvloop calls that handler, and throws away what it raises: the test, and
with it the whole run, would hang for ever.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

_AGAIN_S = 60.0
"""How long a test that is over its limit may take to clean up, before it is ended once more."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(settings: Any) -> Generator[None, Any, Any]:
    """Let the alarm cancel what waits in a loop: the traceback shows the line that never returned."""
    result = yield
    fail = signal.getsignal(signal.SIGALRM)
    if not callable(fail):
        return result

    def end(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None or asyncio.current_task(loop) is not None:  # in code that blocks, also within a task
            fail(number, frame)
            return
        for task in asyncio.all_tasks(loop):
            task.cancel(f"not over within {settings.timeout:g} s")

    signal.signal(signal.SIGALRM, end)
    return result
