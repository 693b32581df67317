"""A timer of the kernel that kills this process unless it is set again in time.

For what stops every thread of a process, the watchdog's among them: a handler that sends SIGSTOP to its own process,
or native code that never gives Python's lock back. SIGKILL ends a stopped process, too. Linux only, as a timer with
that signal has to be made by `timer_create`; elsewhere nothing happens.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys

log = logging.getLogger(__name__)

_CLOCK_MONOTONIC = 1
"""Stands still while the machine sleeps."""


class _Sigevent(ctypes.Structure):
    """`struct sigevent`: 64 bytes, of which a signal needs the first 16."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal_number", ctypes.c_int),
        ("notify", ctypes.c_int),  # SIGEV_SIGNAL is 0
        ("rest", ctypes.c_char * 48),
    )


class _Itimerspec(ctypes.Structure):
    """`struct itimerspec`: an interval, for which we have no use, and the time until the timer goes off."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class DeadMan:
    """Kills this process `limit_s` after the last `set`; not its children, which do not inherit it."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._timer = ctypes.c_void_p()
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        event = ctypes.byref(_Sigevent(signal_number=signal.SIGKILL))
        if not self._call("timer_create", _CLOCK_MONOTONIC, event, ctypes.byref(self._timer)):
            self._libc = None

    def set(self) -> None:
        """Restart the count."""
        self._arm(self._limit_s)

    def close(self) -> None:
        """Kill no more."""
        self._arm(0)

    def _arm(self, limit_s: float) -> None:
        seconds, rest_s = divmod(limit_s, 1)
        spec = ctypes.byref(_Itimerspec(value_s=int(seconds), value_ns=int(rest_s * 1e9)))
        self._call("timer_settime", self._timer, 0, spec, None)

    def _call(self, name: str, *arguments: object) -> bool:
        """Call the C library; returns whether that worked."""
        if self._libc is None:
            return False
        try:
            code: int = getattr(self._libc, name)(*arguments)
        except AttributeError:  # a C library before glibc 2.34 keeps it elsewhere
            log.debug("the C library has no %s", name)
            return False
        if code:
            log.debug("%s failed: %s", name, os.strerror(ctypes.get_errno()))
        return code == 0
