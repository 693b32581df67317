"""Real workers as processes: started, killed, frozen and restarted by tests, as an operator or a bad day would."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from api_process import PATIENCE_S
from fork_server import start_module

from app.addresses.ports import free_port
from app.names import Names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from fork_server import Process

ROLES = ("distribution", "processing", "statistics")
SESSION_TIMEOUT_S = 3.0
"""Of workers that are killed or frozen, so that others take over soon. Where the machine stands still for as long, they
are left behind and end: the test must revive them, or give them what is `PATIENT`."""
TAKEN_OVER = {"EBS_SESSION_TIMEOUT_S": "8", "EBS_TRANSACTION_TIMEOUT_S": "12"}
"""Settings of a worker that must live until the test kills it, and be missed soon then."""
PATIENT = {"EBS_SESSION_TIMEOUT_S": "45", "EBS_TRANSACTION_TIMEOUT_S": "60"}
"""Settings of workers that must not end before the test wants it, however slow the machine is."""
_ROOT = Path(__file__).parents[2]
_POLL_S = 0.1
_LOG_LINES = 25


@dataclass
class Worker:
    """One `faust -A <module> worker` process, by the name that the test gave it."""

    name: str
    module: str
    log_path: Path
    env: dict[str, str]
    process: Process
    frozen: bool = False

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return self.process.poll()

    def log(self) -> str:
        """Everything that it has said, over all of its lives."""
        return self.log_path.read_text(errors="replace")


class Fleet:
    """Workers by name; `revive` starts again what has ended, as a supervisor does."""

    def __init__(
        self, bootstrap: str, directory: Path, env: Mapping[str, str] | None = None, *, namespace: str = ""
    ) -> None:
        self.names = Names(namespace)
        self.directory = directory
        self.workers: dict[str, Worker] = {}
        self.faust_level = "info"
        self._env = {
            **os.environ,
            "EBS_BROKER": bootstrap,
            "EBS_NAMESPACE": namespace,
            "EBS_DATA_DIR": str(directory / "data"),
            "EBS_PROCESS_TIME": "0",
            "EBS_TASKS_PER_OBJECT": "3",  # also with a project
            "EBS_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
            "EBS_TRANSACTION_TIMEOUT_S": "5",
            "PYTHONPATH": os.pathsep.join(
                str(_ROOT / path) for path in (".", "tests/faults/sabotage", "tests/support")
            ),
            **(env or {}),
        }

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that belongs to the same system."""
        return dict(self._env)

    def start(self, role: str, name: str = "", *, module: str = "", **env: str) -> Worker:
        """Start a worker of a role; `module` runs another Faust app in its place."""
        name = name or f"{role}-1"
        module = module or f"agents.{role}"
        full = {**self._env, "EBS_WEB_PORT": str(free_port()), **env}
        log_path = self.directory / f"{name}.log"
        worker = Worker(name, module, log_path, full, _launch(module, full, log_path, self.faust_level))
        self.workers[name] = worker
        return worker

    def start_all(self, workers_per_role: int = 1, **env: str) -> None:
        """Start workers of every role."""
        for role in ROLES:
            for number in range(1, workers_per_role + 1):
                self.start(role, f"{role}-{number}", **env)

    def kill(self, name: str) -> None:
        """End a worker as a crash would: kill -9."""
        worker = self.workers[name]
        worker.process.kill()
        worker.process.wait()

    def freeze(self, name: str) -> None:
        """Stop a worker in its tracks: SIGSTOP."""
        self.workers[name].process.send_signal(signal.SIGSTOP)
        self.workers[name].frozen = True

    def thaw(self, name: str) -> None:
        """Let a frozen worker go on: SIGCONT."""
        self.workers[name].process.send_signal(signal.SIGCONT)
        self.workers[name].frozen = False

    async def terminate(self, name: str, *, expected_code: int | None = None) -> None:
        """Ask a worker to stop, and wait until it has; see that it ends with a certain exit code."""
        worker = self.workers.pop(name)
        worker.process.terminate()
        await until(lambda: worker.exit_code is not None, f"{name} to stop", fleet=self)
        if expected_code is not None:
            assert worker.exit_code == expected_code, "\n".join(worker.log().splitlines()[-_LOG_LINES:])

    def revive(self) -> list[str]:
        """Start again what has ended; returns the names."""
        dead = [worker for worker in self.workers.values() if worker.exit_code is not None]
        for worker in dead:
            worker.process = _launch(worker.module, worker.env, worker.log_path, self.faust_level)
        return [worker.name for worker in dead]

    def stop(self, *, leaving: bool = False) -> None:
        """End everything at once; `leaving` lets the workers leave their groups first, for the next test's sake."""
        if leaving:
            for worker in self.workers.values():
                worker.process.terminate()
            for worker in self.workers.values():
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(PATIENCE_S)
        for worker in self.workers.values():
            with suppress(ProcessLookupError):
                worker.process.kill()
        for worker in self.workers.values():
            worker.process.wait()

    def last_words(self) -> str:
        """Return the ends of all logs, for a failure's message."""
        return "\n".join(
            f"--- {worker.name} (exit code {worker.exit_code})\n" + "\n".join(worker.log().splitlines()[-_LOG_LINES:])
            for worker in self.workers.values()
        )


@contextmanager
def running_fleet(
    bootstrap: str, directory: Path, partition_count: int, *, namespace: str = "", **environment: str
) -> Iterator[Fleet]:
    """Return a fleet without workers; none that is started outlives the block."""
    fleet = Fleet(bootstrap, directory, {"EBS_PARTITIONS": str(partition_count), **environment}, namespace=namespace)
    try:
        yield fleet
    finally:
        fleet.stop()


async def until(
    condition: Callable[[], bool | Awaitable[bool]],
    what: str | Callable[[], str],
    *,
    timeout_s: float = PATIENCE_S,
    fleet: Fleet | None = None,
    reviving: bool = False,
) -> float:
    """Wait for a condition and return how long it took (s); a condition that never comes fails with the logs."""
    began_at_s = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):  # a condition that hangs is one that never comes
            while not await _holds(condition):
                if reviving and fleet is not None:
                    fleet.revive()
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        told = what if isinstance(what, str) else what()
        last_words = fleet.last_words() if fleet else ""
        raise AssertionError(f"waited {timeout_s:g} s in vain for {told}\n{last_words}") from error
    return time.monotonic() - began_at_s


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    holds = condition()
    return holds if isinstance(holds, bool) else await holds


def said(workers: Iterable[Worker], text: str) -> bool:
    """Return whether every worker has said `text`."""
    return all(text in worker.log() for worker in workers)


def owned(worker: Worker) -> list[int]:
    """Return the partitions that a worker said last that it owns."""
    found = re.findall(r"owns partitions \[([\d, ]*)\]", worker.log())
    return [int(number) for number in found[-1].split(",") if number.strip()] if found else []


def _launch(module: str, env: dict[str, str], log_path: Path, faust_level: str) -> Process:
    arguments = ["-A", module, "worker", "-l", faust_level]
    return start_module("faust", arguments, env=env, cwd=log_path.parent, log_path=log_path)
