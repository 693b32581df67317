"""Logs what blocks the event loop: while it is blocked nothing else runs in the worker, not even its heartbeats.

The loop sets a time four times a second. A thread checks this time; if it is too old, the stack of the loop's thread
shows which handler does not return, and where. So running a handler costs nothing extra.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from agents.execution.user_functions import handler_at

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable
    from types import CodeType, FrameType

    from agents.execution.loading import LoadedHandler

log = logging.getLogger(__name__)

_LOOKS_PER_LIMIT = 4


class LoopMonitor:
    """Watches the running loop's thread from a thread of its own until it is stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handlers: Iterable[LoadedHandler], limit_s: float) -> None:
        """Watch `loop`, which must be the one of this thread; a block of more than `limit_s` is logged."""
        self._loop = loop
        self._loop_thread_id = threading.get_ident()
        self._limit_s = limit_s
        self._period_s = limit_s / _LOOKS_PER_LIMIT
        self._names = _names_by_code(handlers)
        self._stopped = threading.Event()
        self._beat_at_s = time.monotonic()
        self._blocker = ""
        self._next_beat = loop.call_later(self._period_s, self._beat)
        threading.Thread(target=self._watch, name="ebs-loop-monitor", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._next_beat.cancel()
        self._stopped.set()

    def _beat(self) -> None:
        now_s = time.monotonic()
        if self._blocker:
            log.warning("%s: the event loop runs again, after %.1f s", self._blocker, now_s - self._beat_at_s)
            self._blocker = ""
        self._beat_at_s = now_s
        self._next_beat = self._loop.call_later(self._period_s, self._beat)

    def _watch(self) -> None:
        suspected_s = 0.0
        while not self._stopped.wait(self._period_s):
            beat_at_s = self._beat_at_s
            if self._blocker or time.monotonic() - beat_at_s < self._period_s + self._limit_s:
                continue
            # Twice the same beat: after a machine or a container slept, this thread may only have woken up first.
            if beat_at_s == suspected_s:
                self._report(time.monotonic() - beat_at_s)
            suspected_s = beat_at_s

    def _report(self, silent_s: float) -> None:
        frame = sys._current_frames().get(self._loop_thread_id)  # noqa: SLF001  # documented: for debugging deadlocks
        if frame is None:
            return
        place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
        name = self._handler_on(frame)
        if name is None:
            self._blocker = "no handler"
            log.warning(
                "the event loop has not run for %.1f s, it is at %s, in no handler. If that call is short, "
                "threads that compute (mark their handlers @cpu_bound), or other programs, use all CPU time",
                silent_s,
                place,
            )
            return
        self._blocker = f"handler {name}"
        log.warning(
            "handler %s has blocked the event loop for %.1f s, at %s: nothing else can run. Let it `await` slow calls, "
            "or make it a plain `def`, which runs in a thread, or @cpu_bound",
            name,
            silent_s,
            place,
        )

    def _handler_on(self, frame: FrameType | None) -> str | None:
        while frame is not None:
            name = self._names.get(frame.f_code) or handler_at(frame)
            if name is not None:
                return name
            frame = frame.f_back
        return None


def _names_by_code(handlers: Iterable[LoadedHandler]) -> dict[CodeType, str]:
    names: dict[CodeType, str] = {}
    for handler in handlers:
        code = _code_of(handler.function)
        if code is not None:
            # Functions made by one factory share their code: then it is one of them.
            known = names.get(code, handler.name)
            names[code] = known if handler.name in known.split(" or ") else f"{known} or {handler.name}"
    return names


def _code_of(function: Any) -> CodeType | None:
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not hasattr(function, "__code__") and not inspect.isroutine(function):
        function = type(function).__call__
    return getattr(function, "__code__", None)
