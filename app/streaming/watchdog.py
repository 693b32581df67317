"""Ends a worker that hangs: a thread that looks whether the event loops turn and whether the work moves.

What stops this thread, too, is the matter of a timer of the kernel (`dead_man`): native code that never gives Python's
lock back, a handler that stops its own process. That is an end without a word; the next owner of the tasks finds the
culprit by the deaths (`app.rules.owner_lives`).
"""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import logging
import os
import resource
import threading
import time
import traceback
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

from app.streaming.dead_man import DeadMan
from app.streaming.process_wide import ProcessWide

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

EXIT_STOOD_STILL = 72
"""The event loop was blocked, or the worker made no progress, for EBS_STALL_TIMEOUT_S; start it again."""

DEAD_AFTER_LIMITS = 4
"""So many limits may a process be stopped: somebody who debugs it, or a container that is paused, needs some time."""
_LOOKS_PER_LIMIT = 20
_MAX_PERIOD_S = 1.0
_STANDARD_ERROR = 2
_STACK_FRAMES = 6
_MAX_TASKS_SHOWN = 40


class _Pulse:
    """Whether a loop turns: it is asked to answer, again and again."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.loop = loop
        self.asked_at_s = 0.0
        self.answered = True

    def ask(self, now_s: float) -> bool:
        """Ask; returns False if the loop has ended."""
        self.asked_at_s, self.answered = now_s, False
        try:
            self.loop.call_soon_threadsafe(self._answer)
        except RuntimeError:
            return False
        return True

    def _answer(self) -> None:
        self.answered = True


class Silence(NamedTuple):
    """What is wrong, in words, and the loops whose tasks may show why."""

    reason: str
    loops: list[asyncio.AbstractEventLoop]


class Watchdog:
    """Watches loops and a verdict; `end(silence)` is called once, in the watchdog's thread, and should not return.

    Time counts while this thread itself runs: after a stop of the whole process (SIGSTOP, a laptop's sleep) everything
    gets its full limit again, unless the stop lasted for `DEAD_AFTER_LIMITS`. `describe_work` says what was in hand
    when somebody had replaced a clock.
    """

    def __init__(
        self,
        limit_s: float,
        *,
        verdict: Callable[[], str | None],
        end: Callable[[Silence], object] | None = None,
        describe_work: Callable[[], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._describe_work = describe_work
        self.period_s = min(_MAX_PERIOD_S, limit_s / _LOOKS_PER_LIMIT)
        self._limit_s = limit_s
        self._verdict = verdict
        self._end = end or end_hanging_process
        self._clock = clock
        self._pulses: list[_Pulse] = []
        self._dead_man = DeadMan(DEAD_AFTER_LIMITS * limit_s)
        self._process_wide = ProcessWide()
        self._stopped = threading.Event()
        self._looked_at_s = clock()
        self._watched_s = 0.0
        self._condemned = False
        self._stop_due_at_s: float | None = None
        self._stop_limit_s = 0.0

    def watch(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a loop too, until it is closed."""
        self._pulses.append(_Pulse(name, loop))

    def start(self) -> None:
        """Begin to watch."""
        self._looked_at_s = self._clock()
        threading.Thread(target=self._run, name="ebs-watchdog", daemon=True).start()

    def limit_stop(self, limit_s: float) -> None:
        """Let the process end within so long from now on, whatever hangs: it has begun to stop."""
        self._stop_limit_s = limit_s
        self._stop_due_at_s = self._watched_s + limit_s

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    async def run_beside_this_loop(self) -> None:
        """Watch the running loop until cancelled."""
        self.watch("the event loop", asyncio.get_running_loop())
        self.start()
        try:
            await asyncio.Event().wait()
        finally:
            self.stop()

    def look(self) -> Silence | None:
        """Look once; returns what is wrong, if anything."""
        now_s = self._clock()
        self._watched_s += min(now_s - self._looked_at_s, 2 * self.period_s)
        self._looked_at_s = now_s
        for pulse in list(self._pulses):
            if pulse.answered:
                if not pulse.ask(self._watched_s):
                    self._pulses.remove(pulse)
            elif self._watched_s - pulse.asked_at_s >= self._limit_s:
                silent_s = self._watched_s - pulse.asked_at_s
                return Silence(f"{pulse.name} has not turned for {silent_s:.0f} s", [])
        if self._stop_due_at_s is not None and self._watched_s >= self._stop_due_at_s:
            return Silence(f"its stop has not ended after {self._stop_limit_s:g} s", self._loops())
        reason = self._verdict()
        # Twice: `/livez` says it before the end, and one that was passing is let pass.
        condemned, self._condemned = self._condemned, reason is not None
        if reason is None or not condemned:
            return None
        return Silence(reason, self._loops())

    def _loops(self) -> list[asyncio.AbstractEventLoop]:
        return [pulse.loop for pulse in self._pulses]

    def _run(self) -> None:
        self._dead_man.set()
        while not self._stopped.wait(self.period_s):
            self._dead_man.set()
            self._put_back()
            silence = self.look()
            if silence is not None:
                self._end(silence)
                return
        self._dead_man.close()

    def _put_back(self) -> None:
        changed = self._process_wide.put_back()
        if changed:
            work = _words_of(self._describe_work)
            log.error(
                "code in this process had replaced %s, which the worker needs for its time limits and connections: "
                "put back%s",
                ", ".join(changed),
                work and f"; {work}",
            )


def why_starved() -> str | None:
    """Return that this process can open nothing any more, None if it can.

    What runs in it then fails at random, and nobody gives back what a handler has taken and forgotten.
    """
    try:
        os.close(os.dup(_STANDARD_ERROR))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return f"all file descriptors are used up (the limit is {limit}): something does not close its files"
    return None


def end_hanging_process(silence: Silence, describe_work: Callable[[], str] = str) -> None:
    """Say what is wrong with the stacks of all threads, and end the process so that its partitions move on.

    Written past `logging`, whose locks the thread that hangs may hold, and past `sys.stderr`, which Faust replaces.
    """
    work = _words_of(describe_work)
    reason = f"{silence.reason}; {work}" if work else silence.reason
    text = f"the worker ends (exit code {EXIT_STOOD_STILL}): {reason}\n{_describe_tasks(silence)}"
    os.write(_STANDARD_ERROR, text.encode(errors="backslashreplace"))
    faulthandler.dump_traceback(file=_STANDARD_ERROR, all_threads=True)
    os._exit(EXIT_STOOD_STILL)


def _words_of(describe_work: Callable[[], str]) -> str:
    try:
        return describe_work()
    except Exception as error:  # noqa: BLE001  # it is asked in another thread than the one whose work it is
        return f"what was in hand cannot be said ({error!r})"


def _describe_tasks(silence: Silence) -> str:
    """Return where the tasks of loops wait: a loop that turns shows nothing in its thread's stack."""
    said = StringIO()
    for loop in silence.loops:
        try:
            tasks = list(asyncio.all_tasks(loop))
            for task in tasks[:_MAX_TASKS_SHOWN]:
                task.print_stack(limit=_STACK_FRAMES, file=said)
        except Exception:  # noqa: BLE001  # tasks come and go while another thread looks; what was seen is said
            traceback.print_exc(file=said)
    return said.getvalue()
