"""A forked program is what a new interpreter with the same command line would be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fork_server
import pytest
from api_process import until
from fork_server import start_module

if TYPE_CHECKING:
    from fork_server import Process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="programs are forked on Linux only")

PROBE = """
import atexit, json, os, random, signal, sys, threading, time
signals = {int(one): str(signal.getsignal(one)) for one in signal.valid_signals()}
told = {
    "argv": sys.argv, "path": sys.path, "cwd": os.getcwd(), "name": __name__, "spec": __spec__.name,
    "env": {name: value for name, value in os.environ.items() if name not in {"_", "SHLVL"}},
    "leads": [os.getpid() == os.getpgid(0), os.getpid() == os.getsid(0)], "threads": threading.active_count(),
    "signals": {number: text.partition(" at ")[0] for number, text in signals.items()},
    "mask": [*signal.pthread_sigmask(0, [])],
    "files": [os.isatty(number) for number in range(3)], "globals": sorted(globals()), "argument": sys.argv[1:],
}
print(json.dumps(told))
print(random.random(), len(os.listdir("/proc/self/fd")), file=sys.stderr)
atexit.register(print, "the end")
exec(sys.argv[1])
"""


def start(directory: Path, deed: str) -> tuple[Process, Path]:
    """Start the probe, which tells of itself and then does a deed; returns it and where its output is."""
    package = directory / "modules" / "probe"
    if not package.exists():  # a process that was started before may be about to read it
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(PROBE)
    log_path = directory / f"log-{len(list(directory.iterdir()))}"
    env = {**os.environ, "PYTHONPATH": str(package.parent), "EBS_PARTITIONS": "7", "PYTHONDONTWRITEBYTECODE": "1"}
    return start_module("probe", [deed], env=env, cwd=directory, log_path=log_path), log_path


def told_by(log_path: Path) -> tuple[dict[str, Any], str, str]:
    """Return what the probe told of itself, of chance and open files, and how it ended."""
    chance, told, end = sorted(log_path.read_text().splitlines(), key=lambda line: (line[0] != "0", line[0] != "{"))
    return json.loads(told), chance, end


def test_is_what_a_new_interpreter_is(tmp_path, monkeypatch):
    """Arguments, paths, environment, signals, files, names: the same; random numbers and process: its own."""
    one, forked_log = start(tmp_path, "")
    other, again_log = start(tmp_path, "")
    assert [0, 0] == [one.wait(60), other.wait(60)]
    monkeypatch.setattr(fork_server, "_is_wanted", False)
    real, real_log = start(tmp_path, "")
    assert isinstance(real, subprocess.Popen)
    assert 0 == real.wait(60)
    forked, chance, end = told_by(forked_log)
    for what, told in told_by(real_log)[0].items():
        assert (what, told) == (what, forked[what])
    assert "the end" == end
    assert 3 == len({chance.split()[0], told_by(again_log)[1].split()[0], told_by(real_log)[1].split()[0]})
    assert chance.split()[1] == told_by(real_log)[1].split()[1]


@pytest.mark.parametrize(
    ("deed", "exit_code", "said"),
    [
        ("sys.exit(3)", 3, "the end"),
        ("sys.exit('error: why')", 1, "error: why"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("os._exit(72)", 72, ""),
        ("os.kill(os.getpid(), 9)", -9, ""),
        # With Python's handler: what a shell starts in the background ignores the signal, and so does its offspring.
        (
            "signal.signal(2, signal.default_int_handler); os.kill(os.getpid(), 2); time.sleep(60)",
            -2,
            "KeyboardInterrupt",
        ),
    ],
)
def test_exit_codes_and_last_words_are_the_same(tmp_path, monkeypatch, deed, exit_code, said):
    """Returned, raised, ended at once, killed."""
    forked, forked_log = start(tmp_path, deed)
    monkeypatch.setattr(fork_server, "_is_wanted", False)
    real, real_log = start(tmp_path, deed)
    assert [exit_code] * 2 == [forked.wait(60), real.wait(60)]
    assert [True] * 2 == [said in log.read_text() for log in (forked_log, real_log)]


def test_lives_until_it_is_told_to_end(tmp_path):
    """It is stopped, goes on, and hears signals; nobody waits for longer than asked."""
    process, log_path = start(tmp_path, "signal.signal(15, lambda *_: sys.exit(5))\nwhile True: signal.pause()")
    until(lambda: log_path.exists() and "{" in log_path.read_text(), "the probe")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.send_signal(signal.SIGSTOP)
    until(lambda: state_of(process.pid) == "T", "it to stand")
    process.terminate()
    process.send_signal(signal.SIGCONT)
    assert 5 == process.wait(60)
    process.kill()
    assert (5, 5) == (process.poll(), process.returncode)


def test_ends_with_the_fork_server(tmp_path, monkeypatch):
    """As a child of a process of the tests' would."""
    monkeypatch.setattr(fork_server, "_server", None)
    process, log_path = start(tmp_path, "signal.pause()")
    until(lambda: log_path.exists() and "{" in log_path.read_text(), "the probe")
    fork_server._server.stop()
    until(lambda: not Path(f"/proc/{process.pid}").exists(), "it to be gone")


def state_of(pid: int) -> str:
    """Return the letter that the kernel has for the state of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
