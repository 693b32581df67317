"""The moment at which the process is asked to stop, for answers that would go on for long.

uvicorn waits for open answers before it lets the application stop, so a stream or a long poll would keep the process
alive until its supervisor kills it. So the signal is heard here first, and the server's own handler after that.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Closing:
    """Whether the process has been asked to stop; calls back those who must end then."""

    def __init__(self) -> None:
        self.asked = False
        self._callbacks: list[Callable[[], None]] = []

    def call(self, callback: Callable[[], None]) -> None:
        """Call back when the process is asked to stop, from the event loop."""
        self._callbacks.append(callback)

    def ask(self) -> None:
        """Let all long answers end."""
        self.asked = True
        for callback in self._callbacks:
            callback()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear the signals as long as this lasts; elsewhere than in the main thread there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in _SIGNALS}

        def heard(number: int, frame: Any) -> None:
            loop.call_soon_threadsafe(self.ask)
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)

        for number, handler in before.items():
            # A handler that Python did not install cannot be called, and one that ignores must go on doing so.
            if callable(handler):
                signal.signal(number, heard)
        try:
            yield
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) is heard:
                    signal.signal(number, handler)
