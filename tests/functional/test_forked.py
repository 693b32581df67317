"""Forked children of a worker: they get nothing of it. Each scenario is a small worker of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIMIT_S = 60
WORKER = """
import asyncio, multiprocessing, os, signal, socket, sys, threading, time
from app.process import forked
import uvloop

async def main():
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, print, "the worker was told to stop")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    apart = sys.argv[1] == "apart"
    if apart:
        forked.set_children_apart(port)
    await scenario(loop, port)
    for _ in range(20):  # a signal of the child is in the pipe by now: the loop reads it in its next turns
        await asyncio.sleep(0)
    print("the worker goes on")

{scenario}

with asyncio.Runner(loop_factory=getattr({loop}, "new_event_loop")) as runner:
    runner.run(main())
"""
TERMINATED = """
async def scenario(loop, port):
    def terminate():
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        child.start()
        child.terminate()
        child.join(30)
        print("the child ended with", child.exitcode)
    if {in_thread}:
        await asyncio.to_thread(terminate)
    else:
        terminate()
"""
LISTENING = """
async def scenario(loop, port):
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        # Its own socket is left alone.
        own = socket.create_server(("127.0.0.1", 0))
        names = []
        for name in os.listdir("/proc/self/fd"):
            try:
                one = socket.socket(fileno=os.dup(int(name)))
            except OSError:
                continue
            if one.family == socket.AF_INET:
                names.append("the worker's" if one.getsockname()[1] == port else "its own")
        os.write(here, repr(names).encode())
        os._exit(0)
    os.waitpid(child, 0)
    print(os.read(there, 1000).decode())
"""
RETURNING = """
async def scenario(loop, port):
    child = os.fork()
    forked.end_if_child()
    os.waitpid(child, 0)
    print("one is left")
"""
AWAITING = """
async def scenario(loop, port):
    child = os.fork()
    if child == 0:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        print("the child goes on in the loop", flush=True)
    os.waitpid(child, 0)
"""


def run(scenario: str, *, apart: bool = True, loop: str = "uvloop") -> list[str]:
    """Run a worker and return what it says."""
    code = WORKER.format(scenario=scenario, loop=loop)
    done = subprocess.run(
        [sys.executable, "-c", code, "apart" if apart else "not"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert "" == done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_child_that_is_terminated_ends_alone(loop, in_thread):
    """Without it the signal stops the worker, by the pipe that the child shares."""
    scenario = TERMINATED.format(in_thread=in_thread)
    assert ["the child ended with -15", "the worker goes on"] == run(scenario, loop=loop)


def test_child_does_not_have_the_port_of_its_worker():
    """So that the worker's successor can have it, however long the child lives."""
    assert ["['its own']", "the worker goes on"] == run(LISTENING)
    assert "the worker's" in run(LISTENING, apart=False)[0]


def test_child_that_returns_from_its_handler_ends_there():
    """It would go on as a second worker on the first one's connections."""
    assert ["one is left", "the worker goes on"] == run(RETURNING)


def test_child_does_not_go_on_in_the_loop():
    """As above."""
    assert ["the worker goes on"] == run(AWAITING)
