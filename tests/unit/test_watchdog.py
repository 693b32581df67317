"""The watchdog: ends what hangs, and nothing that was only stopped."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from app.streaming.watchdog import EXIT_STOOD_STILL, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT_S = 60.0


class Bench:
    """A watchdog whose thread does not run: the test looks, and is the clock and the verdict."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.verdict: str | None = None
        self.watchdog = Watchdog(LIMIT_S, verdict=lambda: self.verdict, clock=lambda: self.now_s)

    def look_for(self, seconds: float, in_between: Callable[[], object] = lambda: None) -> str | None:
        """Look in the watchdog's rhythm; returns what is wrong in the end."""
        silence = None
        for _ in range(round(seconds / self.watchdog.period_s)):
            self.now_s += self.watchdog.period_s
            silence = self.watchdog.look()
            in_between()
        return silence.reason if silence else None


@contextmanager
def turning_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def answered(loop: asyncio.AbstractEventLoop) -> None:
    """Wait until a loop has turned."""
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(60)


def test_loop_that_turns_is_left_alone():
    """However long it is looked at."""
    bench = Bench()
    with turning_loop() as loop:
        bench.watchdog.watch("the event loop", loop)
        assert bench.look_for(200, lambda: answered(loop)) is None


def test_loop_that_does_not_turn_is_found_after_the_limit():
    """Not before, and by its name."""
    bench = Bench()
    with turning_loop() as fine:
        hanging = asyncio.new_event_loop()
        bench.watchdog.watch("the event loop", fine)
        bench.watchdog.watch("the consumer's thread", hanging)
        assert bench.look_for(LIMIT_S, lambda: answered(fine)) is None
        assert "the consumer's thread has not turned for 60 s" == bench.look_for(1, lambda: answered(fine))
        hanging.close()


def test_loop_that_has_ended_is_forgotten():
    """A worker that stops closes its loops; that is no hanging."""
    bench = Bench()
    loop = asyncio.new_event_loop()
    bench.watchdog.watch("the event loop", loop)
    loop.close()
    assert bench.look_for(200) is None


def test_stop_of_the_whole_process_gives_the_full_limit_again():
    """Two hours of SIGSTOP count as a moment: the watchdog did not run either."""
    bench = Bench()
    loop = asyncio.new_event_loop()
    bench.watchdog.watch("the event loop", loop)
    assert bench.look_for(30) is None
    bench.now_s += 7_200
    assert bench.look_for(20) is None
    assert bench.look_for(15) is not None
    loop.close()


def test_verdict_ends_at_its_second_look():
    """Standing still is fatal, unless it has passed at the next look."""
    bench = Bench()
    bench.verdict = "records are in hand"
    assert bench.look_for(1) is None
    bench.verdict = None
    assert bench.look_for(1) is None
    bench.verdict = "records are in hand"
    assert "records are in hand" == bench.look_for(2)


_HANGING = """
import asyncio, threading, time
from app.streaming.watchdog import Watchdog

async def hang_here():
    watchdog = Watchdog(2.0, verdict=lambda: None)
    watchdog.watch("the event loop", asyncio.get_running_loop())
    watchdog.start()
    await asyncio.sleep(0.2)
    time.sleep(600)

asyncio.run(hang_here())
"""

_STANDING = """
import asyncio
from app.streaming.watchdog import Watchdog

async def wait_for_ever():
    await asyncio.Event().wait()

async def main():
    waiting = asyncio.create_task(wait_for_ever())
    watchdog = Watchdog(10.0, verdict=lambda: "records are in hand")
    watchdog.watch("the event loop", asyncio.get_running_loop())
    watchdog.start()
    await waiting

asyncio.run(main())
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_process_whose_loop_hangs_ends_with_its_stacks():
    """Own exit code, the reason, and where it hangs."""
    ended = run(_HANGING)
    assert EXIT_STOOD_STILL == ended.returncode
    assert "the worker ends (exit code 72): the event loop has not turned for" in ended.stderr
    assert "in hang_here" in ended.stderr


def test_process_whose_work_makes_no_progress_ends_and_shows_where_its_tasks_wait():
    """The thread of a loop that turns shows nothing: its tasks do."""
    ended = run(_STANDING)
    assert EXIT_STOOD_STILL == ended.returncode
    assert "records are in hand" in ended.stderr
    assert "in wait_for_ever" in ended.stderr


_STOPPED = """
import ctypes, os, signal, sys, time
from app.streaming.watchdog import DEAD_AFTER_LIMITS, Watchdog

watchdog = Watchdog(0.25, verdict=lambda: None)
watchdog.start()
time.sleep(DEAD_AFTER_LIMITS * 0.25 * 2)
print("lives", flush=True)
if sys.argv[1] == "stop":
    os.kill(os.getpid(), signal.SIGSTOP)
if sys.argv[1] == "native":
    ctypes.PyDLL(None).sleep(600)  # with Python's lock
watchdog.stop()
time.sleep(DEAD_AFTER_LIMITS * 0.25 * 2)
print("still lives", flush=True)
"""


@pytest.mark.parametrize("by", ["stop", "native"])
def test_process_that_stops_itself_is_killed(by):
    """No thread of it runs any more: by SIGSTOP, or as native code keeps Python's lock."""
    ended = run(_STOPPED, by)
    assert (-signal.SIGKILL, "lives\n") == (ended.returncode, ended.stdout)


def test_process_that_is_not_watched_any_more_lives():
    """And one that is, as long as it runs."""
    ended = run(_STOPPED, "nothing")
    assert (0, "lives\nstill lives\n") == (ended.returncode, ended.stdout)


_STARVING = """
import os, resource, threading
from app.streaming.watchdog import Watchdog, why_starved

assert why_starved() is None
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
Watchdog(1.0, verdict=why_starved, describe_work=lambda: "").start()
taken = []
try:
    while True:
        taken.append(os.dup(2))
except OSError:
    threading.Event().wait()
"""


def test_process_that_has_used_up_its_descriptors_ends():
    """Whatever else runs in it would fail; a new life has all of them."""
    ended = run(_STARVING)
    assert EXIT_STOOD_STILL == ended.returncode
    assert "all file descriptors are used up (the limit is 64)" in ended.stderr


_TAMPERING = """
import sys, threading, time
from app.streaming.watchdog import Watchdog

real = time.monotonic
watchdog = Watchdog(1.0, verdict=lambda: None, describe_work=lambda: "running: task a-0")
watchdog.start()
time.monotonic = time.time = lambda: 0
sys.setrecursionlimit(60)
while time.monotonic is not real or sys.getrecursionlimit() != 1_000:
    pass
watchdog.stop()
for thread in threading.enumerate():
    if thread.name == "ebs-watchdog":
        thread.join()
"""


def test_what_belongs_to_the_whole_process_is_put_back():
    """With a word on what ran then: heartbeats and restarts go by the clocks, all code needs some depth of calls."""
    ended = run(_TAMPERING)
    assert 0 == ended.returncode
    assert "had replaced time.monotonic, time.time, the recursion limit, which" in ended.stderr
    assert "put back; running: task a-0" in ended.stderr


def test_stop_that_hangs_is_ended_at_its_limit():
    """Though the loops turn, or are closed by then; one that is frozen meanwhile gets its full time."""
    bench = Bench()
    assert bench.look_for(100) is None
    bench.watchdog.limit_stop(40)
    assert bench.look_for(39) is None
    bench.now_s += 1_000
    assert bench.look_for(1) == "its stop has not ended after 40 s"
