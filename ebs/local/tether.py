"""Start a program so that it dies with the process that started it, even if that one is killed with -9.

The kernel does it (Linux: `prctl(PR_SET_PDEATHSIG)`, see prctl(2)); elsewhere the program only gets its own session.
This file is run as a script that turns itself into the program, rather than a `preexec_fn`: code between fork and exec
may deadlock in a process that has threads. It must import nothing of this project, for it runs with `-I -S`.

The kernel watches the thread that forked, not its process: start tethered programs from the main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def tethered(argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv`, tethered to this process, under the pid that the caller will see."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv]


def _main(parent_pid: int, argv: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the kernel knew that we care
            sys.exit(1)
    try:
        os.execvp(argv[0], argv)  # noqa: S606  # no shell is the point: the arguments are ours
    except OSError as error:
        sys.exit(f"cannot run {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2:])
