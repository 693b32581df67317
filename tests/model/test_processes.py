"""Time is virtual, and a process does nothing any more once it is killed, and nothing for a while when it is frozen."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from simulation.loop import NothingToDo, SimulatedLoop, virtual_clock
from simulation.process import Process

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    """Make a loop at time 0."""
    one = SimulatedLoop()
    yield one
    one.close()


def counting(loop: SimulatedLoop, counts: list[float]) -> Process:
    """Return a process that notes the time each second."""

    async def count() -> None:
        while True:
            counts.append(loop.time())
            await asyncio.sleep(1.0)

    process = Process(loop, "counter", 1, lambda _process: None)
    process.run(count())
    return process


def test_an_hour_passes_at_once_and_all_clocks_agree(loop: SimulatedLoop) -> None:
    """Those of the module `time` too."""
    began_s = time.monotonic()
    with virtual_clock(loop):
        at_ns = time.time_ns()
        loop.run_until_complete(asyncio.sleep(3_600))
        assert (3_600.0, 3_600.0) == (time.monotonic(), (time.time_ns() - at_ns) / 1e9)
    assert time.monotonic() - began_s < 60


def test_waiting_for_nothing_is_an_error(loop: SimulatedLoop) -> None:
    """Not a hang."""
    waiting = loop.create_future()
    with pytest.raises(NothingToDo):
        loop.run_until_complete(waiting)


def test_killed_process_does_nothing_any_more(loop: SimulatedLoop) -> None:
    """Its tasks are gone."""
    counts: list[float] = []
    process = counting(loop, counts)
    loop.run_until_complete(asyncio.sleep(2.5))
    process.end("killed")
    loop.run_until_complete(asyncio.sleep(5))
    assert ([0.0, 1.0, 2.0], False) == (counts, process.is_alive)


def test_frozen_process_goes_on_where_it_was(loop: SimulatedLoop) -> None:
    """What was due meanwhile comes late."""
    counts: list[float] = []
    process = counting(loop, counts)
    loop.run_until_complete(asyncio.sleep(1.5))
    process.freeze()
    loop.run_until_complete(asyncio.sleep(5))
    process.thaw()
    loop.run_until_complete(asyncio.sleep(1.2))
    assert [0.0, 1.0, 6.5, 7.5] == counts


def test_error_that_a_callback_lets_out_ends_its_process(loop: SimulatedLoop) -> None:
    """Nothing hides."""
    process = Process(loop, "careless", 1, lambda _process: None)

    async def fail_later() -> None:
        loop.call_later(1.0, int, "no number")

    process.run(fail_later())
    loop.run_until_complete(asyncio.sleep(2))
    assert not process.is_alive
    assert "no number" in process.cause
