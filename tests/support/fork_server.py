"""A process that has imported what the programs import, and forks one of them for each request: a start in 0.3 s.

A new interpreter spends 2 s of CPU on imports, and the tests start hundreds. What is forked is a process of its own in
every other way: own session, environment, import path, output, signals, exit code; it runs its module as `python -m`
does. It ends when the fork server ends, which ends with the tests.

This file is a pytest plugin, the fork server's client, and (run as a script) the fork server.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebs.local.tether import tethered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ROOT = Path(__file__).parents[2]
_PROGRAMS = {"agents.distribution", "agents.processing", "agents.statistics", "api.main"}
"""They read their settings when they are imported, so each process imports its own."""
_LIBRARIES = (
    *("faust", "faust.cli.faust", "faust.cli.worker", "faust.transport.drivers.aiokafka", "faust.web.drivers.aiohttp"),
    *("faust.worker", "faust.livecheck", "faust.tables.manager", "faust.assignor.partition_assignor", "venusian"),
    *("uvicorn.main", "uvicorn.loops.uvloop", "uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on"),
)
_NAMES_OF_A_NEW_MODULE = {
    "__annotations__",
    "__builtins__",
    "__doc__",
    "__loader__",
    "__name__",
    "__package__",
    "__spec__",
}
_NUMBER = struct.Struct(">i")
_MAX_REQUEST_BYTES = 1 << 20
_MAX_FILES = 1 << 16
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

_is_wanted = False
_server: ForkServer | None = None


def pytest_configure() -> None:
    """Let the tests' processes be forked."""
    global _is_wanted  # noqa: PLW0603  # pytest's plugins are modules
    _is_wanted = True


def pytest_unconfigure() -> None:
    """End the fork server if there is one."""
    global _is_wanted, _server  # noqa: PLW0603  # as above
    _is_wanted = False
    if _server is not None:
        _server.stop()
        _server = None


class Forked:
    """A forked process, with what the tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Return the exit code (negative: by that signal), None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._status, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1_000):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = _read_number(self._status)
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; none if the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.send_signal(signal.SIGKILL)


Process = Forked | subprocess.Popen[bytes]


class ForkServer:
    """The client's side. The fork server is a child of this process, and dies with it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                tethered([sys.executable, __file__, str(theirs.fileno())]),
                env={name: value for name, value in os.environ.items() if not name.startswith(("EBS_", "PYTHONPATH"))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                cwd="/",
            )

    def start(self, module: str, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, log: int) -> Forked:
        """Let it fork a process that runs `module`; `log` is the file of its output."""
        ours, theirs = os.pipe()
        request = {"module": module, "arguments": list(arguments), "env": dict(env), "cwd": str(cwd)}
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [log, theirs])
        finally:
            os.close(theirs)
        return Forked(_read_number(ours), ours)

    def stop(self) -> None:
        """End it, and with it everything that it forked."""
        self._socket.close()
        self._process.wait()


def start_module(
    module: str, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, log_path: Path
) -> Process:
    """Start `python -m module`; its output is appended to a file. It is forked in tests, a new interpreter elsewhere.

    The kernel ends the fork server with the thread that starts the first process: that must be the main thread.
    """
    global _server  # noqa: PLW0603  # one for each process of pytest
    with log_path.open("ab") as log:
        if _is_wanted and sys.platform == "linux":
            _server = _server or ForkServer()
            return _server.start(module, arguments, env, cwd, log.fileno())
        return subprocess.Popen(
            tethered([sys.executable, "-m", module, *arguments]),
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
        )


def _read_number(descriptor: int) -> int:
    data = os.read(descriptor, _NUMBER.size)
    assert data, "the fork server has ended; what it said is above"
    return int(_NUMBER.unpack(data)[0])


# The fork server's side.


def _import_all() -> list[random.Random]:
    """Import what the programs import; returns the generators of random numbers that the modules have made."""
    sys.path.insert(0, str(_ROOT))
    for name in _LIBRARIES:
        importlib.import_module(name)
    for name in _our_modules():
        importlib.import_module(name)
    sys.path.pop(0)
    thread_count = len(list(Path("/proc/self/task").iterdir()))
    assert 1 == thread_count, "a module starts a thread when it is imported: it does not outlive a fork"
    generators = [one for one in gc.get_objects() if isinstance(one, random.Random)]
    gc.collect()
    gc.freeze()
    return generators


def _our_modules() -> Iterator[str]:
    for package in ("app", "agents", "api"):
        for module in pkgutil.walk_packages([str(_ROOT / package)], f"{package}."):
            if module.name not in _PROGRAMS:
                yield module.name


def _serve(requests: socket.socket) -> tuple[dict[str, Any], int]:
    """Fork for each request and tell how what was forked has ended; returns in the forked process."""
    woken, wakes = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    statuses: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            os.read(woken, 1_024)
            _tell_ends(statuses)
        if requests not in ready:
            continue
        data, files, _, _ = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 2)
        if not data:
            sys.exit()
        log, status = files
        pid = os.fork()
        if pid == 0:
            return json.loads(data), log
        os.close(log)
        statuses[pid] = status
        os.write(status, _NUMBER.pack(pid))


def _tell_ends(statuses: dict[int, int]) -> None:
    for pid in list(statuses):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            told = statuses.pop(pid)
            with contextlib.suppress(BrokenPipeError):  # nobody asks any more
                os.write(told, _NUMBER.pack(os.waitstatus_to_exitcode(status)))
            os.close(told)


def _run(request: dict[str, Any], log: int, server_pid: int, generators: list[random.Random]) -> None:
    """Become the program: what a new interpreter would have begun with, and `python -m module`."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server_pid:  # it ended before the kernel knew
        os._exit(1)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, _MAX_FILES)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.path[:0] = [str(Path.cwd()), *filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep))]
    importlib.invalidate_caches()
    for generator in generators:
        generator.seed()
    sys.argv = ["-m", *request["arguments"]]
    sys.orig_argv = [sys.executable, "-m", request["module"], *request["arguments"]]
    run, module = runpy._run_module_as_main, request["module"]  # what `python -m` itself calls
    names = vars(sys.modules["__main__"])
    for name in names.keys() - _NAMES_OF_A_NEW_MODULE:
        del names[name]
    run(f"{module}.__main__")


def _main(descriptor: int) -> None:
    server_pid = os.getpid()
    sys.path.pop(0)  # this file's directory
    generators = _import_all()
    request, log = _serve(socket.socket(fileno=descriptor))
    _run(request, log, server_pid, generators)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
