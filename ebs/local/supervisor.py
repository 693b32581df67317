"""Keeps programs running: starts them, passes their output on, restarts what dies, stops them all in time.

They run in the supervisor's own folder, so every relative path means the same for all of them.

Each program has its own session, so the terminal's Ctrl-C reaches only the supervisor, which asks them one by one; and
each is tethered, so even `kill -9` of the supervisor leaves none behind. Run it in the main thread (`tether.py`).
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.errors import ProgramFailed
from ebs.local.prefixed_output import lines_of
from ebs.local.restart_policy import REFUSED, UNEVENTFUL, Failures, RestartPolicy, after_end, why_ended
from ebs.local.tether import tethered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ebs.local.program_log import ProgramLog

_LINES_KEPT = 20
_LAST_WORDS_S = 0.5
_STREAM_BYTES = 65_536


@dataclass(frozen=True)
class Program:
    """A command to keep running; `refused` are the exit codes that mean: not with this configuration."""

    role: str
    argv: Sequence[str]
    env: Mapping[str, str]
    refused: frozenset[int] = frozenset({REFUSED})


@dataclass
class Child:
    """The present state of a program; `pid` is None between two runs."""

    role: str
    pid: int | None = None
    start_count: int = 0
    exit_code: int | None = None
    last_end: str = ""
    """How its last life ended and what it said then, while it runs again; empty before the first end."""
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES_KEPT))
    renewal: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when somebody wants a new life of the program."""


@dataclass(frozen=True)
class StopRequest:
    """What the person at the terminal wants: `stop` once, `hurry` if asked again.

    A system that fails sets `stop` itself; `asked` is set only by a person.
    """

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self) -> None:
        """Ask to stop; the second time: at once."""
        self.asked.set()
        (self.hurry if self.stop.is_set() else self.stop).set()


@contextmanager
def stop_on_signals(request: StopRequest) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into a request to stop while the block runs."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, request)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class Supervisor:
    """Runs programs until it is asked to stop; `children` shows them by role.

    `log` gets every line that they say, and the events of their lives. Stopping asks with SIGTERM, and kills after
    `grace_s`.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        log: ProgramLog,
        policy: RestartPolicy | None = None,
        grace_s: float = 4.5,
    ) -> None:
        self.children = {program.role: Child(program.role) for program in programs}
        self._programs = list(programs)
        self._added = asyncio.Event()
        self._log = log
        self._policy = policy or RestartPolicy()
        self._grace_s = grace_s

    async def run(self, request: StopRequest) -> None:
        """Keep the programs running until `request` says stop. Raises `ProgramFailed` if one cannot work at all.

        Whatever ends it, no child is left when it returns.
        """
        keepers: list[asyncio.Task[None]] = []
        stopped = asyncio.create_task(request.stop.wait())
        try:
            while not stopped.done() and not any(keeper.done() for keeper in keepers):
                self._added.clear()
                keepers += [asyncio.create_task(self._keep(one, request)) for one in self._programs[len(keepers) :]]
                added = asyncio.create_task(self._added.wait())
                await asyncio.wait([*keepers, stopped, added], return_when=asyncio.FIRST_COMPLETED)
                added.cancel()
        finally:
            request.stop.set()
            results = await asyncio.gather(*keepers, return_exceptions=True)
            stopped.cancel()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def add(self, program: Program) -> None:
        """Run one more program."""
        self.children[program.role] = Child(program.role)
        self._programs.append(program)
        self._added.set()

    def renew(self, roles: Iterable[str]) -> None:
        """Stop programs as at the end, and start them again at once; their failures until now are forgotten."""
        for role in roles:
            self.children[role].renewal.set()

    async def _keep(self, program: Program, request: StopRequest) -> None:
        clock = asyncio.get_running_loop().time
        child = self.children[program.role]
        failures = Failures()
        while not request.stop.is_set():
            started_s = clock()
            exit_code = await self._live(program, child, request)
            if request.stop.is_set():
                self._log.event(child.role, _last_event(exit_code))
                return
            if child.renewal.is_set():
                failures = Failures()
                continue
            child.last_end = ": ".join([why_ended(exit_code), *list(child.last_lines)[-1:]])
            failures, pause_s = after_end(
                self._policy, failures, exit_code=exit_code, ran_s=clock() - started_s, refused=program.refused
            )
            if pause_s is None:
                raise ProgramFailed(_obituary(child))
            when = f"in {pause_s:g} s" if pause_s else "now"
            self._log.event(
                child.role, f"restarts {when} because {why_ended(exit_code)}", crashed=exit_code not in UNEVENTFUL
            )
            await _any_of(request.stop, child.renewal, timeout_s=pause_s)
            if child.renewal.is_set():
                failures = Failures()

    async def _live(self, program: Program, child: Child, request: StopRequest) -> int:
        """Run a program once, from start to end; return its exit code."""
        process, ended, transport = await _start(tethered(program.argv), env=dict(program.env))
        child.pid, child.exit_code, child.start_count = process.pid, None, child.start_count + 1
        child.last_lines.clear()
        child.renewal.clear()
        self._log.event(child.role, f"started, process {process.pid}")
        listener = asyncio.create_task(self._listen(process, child))
        await _any_of(request.stop, child.renewal, ended=ended)
        if not ended.done():
            await self._end(process, ended, request)
        child.pid, child.exit_code = None, await ended
        # What it said last is still in the pipe. Twice: if this process stood still meanwhile, the first wait is over
        # before anything was read.
        for _ in range(2):
            await asyncio.wait([listener], timeout=_LAST_WORDS_S / 2)
        if not listener.done():
            # Somebody else holds the pipe: a process that it started, which may hold its port, too.
            _kill_group(process.pid)
            await asyncio.wait([listener], timeout=_LAST_WORDS_S)
            listener.cancel()
            transport.close()
        return child.exit_code

    async def _listen(self, process: Process, child: Child) -> None:
        if process.stdout is None:
            return
        async for line in lines_of(process.stdout):
            child.last_lines.append(line)
            self._log.line(child.role, line)

    async def _end(self, process: Process, ended: asyncio.Future[Any], request: StopRequest) -> None:
        process.terminate()
        hurried = asyncio.create_task(request.hurry.wait())
        await asyncio.wait([ended, hurried], timeout=self._grace_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            _kill_group(process.pid)  # its own pool of processes too


async def _any_of(
    *events: asyncio.Event, ended: asyncio.Future[Any] | None = None, timeout_s: float | None = None
) -> None:
    """Wait until one of the events is set, a process has ended, or the time is over."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    everything = waiting if ended is None else [*waiting, ended]
    await asyncio.wait(everything, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()


class _Ending(SubprocessStreamProtocol):
    """Says when a process has ended; `Process.wait` waits for its pipes too, which a grandchild may hold for ever."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=_STREAM_BYTES, loop=loop)
        self.ended: asyncio.Future[Any] = loop.create_future()

    def process_exited(self) -> None:
        """Hear of the end."""
        if not self.ended.done():
            self.ended.set_result(self._transport.get_returncode())  # type: ignore[attr-defined]  # asyncio's own
        super().process_exited()


async def _start(
    argv: Sequence[str], **options: Any
) -> tuple[Process, asyncio.Future[Any], asyncio.SubprocessTransport]:
    """Start a process in a session of its own; returns it, what gets its exit code, and what holds its pipe."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: _Ending(loop),
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        **options,
    )
    return Process(transport, protocol, loop), protocol.ended, transport


def _kill_group(leader_pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader_pid, signal.SIGKILL)


def _last_event(exit_code: int) -> str:
    return "killed: it did not stop in time" if exit_code == -signal.SIGKILL else "stopped"


def _obituary(child: Child) -> str:
    headline = f"{child.role} cannot work: again and again {why_ended(child.exit_code or 0)}; its last lines:"
    return "\n  ".join([headline, *child.last_lines])
