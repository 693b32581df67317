"""What a worker's forked children must not have of it: its signals, its event loop, its port.

A handler may fork (`multiprocessing` does so by default on Linux). The child is a copy: a signal to it would write into
the pipe by which the worker's event loop hears of signals, and stop the worker; it would keep the worker's port from
its successor; and if it returned from the handler it would go on as a second worker on the first one's connections.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path

_OPEN_FILES = (Path("/proc/self/fd"), Path("/dev/fd"))

is_child = False
"""Whether this process is a forked child of a worker."""
private: list[int] = []
"""Files of a worker that its children must close, such as those whose locks say that it lives."""


def set_children_apart(web_port: int) -> None:
    """Let what this process forks from now on begin without what is the worker's; called once, in its event loop."""
    loop, thread_id = asyncio.get_running_loop(), threading.get_ident()
    ours = [number for number in signal.valid_signals() if callable(signal.getsignal(number))]

    fork = threading.local()

    def hold_signals() -> None:
        # One that reached the child before its handlers are gone would still go to the worker, and not end the child.
        fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ours)

    def let_signals_come() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, fork.mask)

    def begin_child() -> None:
        global is_child  # noqa: PLW0603  # of this process, like what it is about
        is_child = True
        signal.set_wakeup_fd(-1)
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        let_signals_come()
        if threading.get_ident() == thread_id:
            loop.call_soon(os._exit, 0)
            # On Python 3.14 the step that it returns from fails: a child has no running loop.
            loop.set_exception_handler(lambda _loop, _context: os._exit(0))
        for descriptor in private:
            with suppress(OSError):
                os.close(descriptor)
        _close_port(web_port)

    os.register_at_fork(before=hold_signals, after_in_parent=let_signals_come, after_in_child=begin_child)


def end_if_child() -> None:
    """End this process if it is a forked child that has returned from its handler: it must not go on as the worker."""
    if is_child:
        os._exit(0)


def _close_port(port: int) -> None:
    """Close what listens on a port, and its connections."""
    for descriptor in _open_descriptors():
        with suppress(OSError):  # it is gone
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode) and _port_of(descriptor) == port:
                os.close(descriptor)


def _port_of(descriptor: int) -> int | None:
    with socket.socket(fileno=os.dup(descriptor)) as one:
        return one.getsockname()[1] if one.family in (socket.AF_INET, socket.AF_INET6) else None


def _open_descriptors() -> list[int]:
    for directory in _OPEN_FILES:
        with suppress(OSError):
            return [int(one.name) for one in directory.iterdir()]
    return []
