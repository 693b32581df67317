"""How many callbacks go to one host at once, and what becomes of the others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from agents.execution import receivers as places
from agents.execution.receivers import PLACES, NoPlace, Receivers

SLOW, FAST = "https://slow.example/a", "https://FAST.example:8443/b"


async def call(receivers: Receivers, url: str, *, answered: bool | None = True) -> None:
    """Make a call that takes no time."""
    async with receivers.place(url) as one:
        one.answered = answered


async def test_a_host_that_is_busy_holds_up_no_other() -> None:
    """Whoever finds no place waits a moment, then hears why."""
    receivers = Receivers(0.01)
    async with AsyncExitStack() as held:
        for _ in range(PLACES):
            await held.enter_async_context(receivers.place(SLOW))
        with pytest.raises(NoPlace, match=r"slow\.example is still busy with others"):
            await call(receivers, SLOW)
        await call(receivers, FAST)
    await call(receivers, SLOW)


async def test_a_place_that_is_left_goes_to_who_waited_longest() -> None:
    """In turn; whoever comes later gets in behind."""
    receivers, order = Receivers(60), []

    async def waiting(name: str) -> None:
        async with receivers.place(SLOW):
            order.append(name)

    async with AsyncExitStack() as held:
        for _ in range(PLACES):
            await held.enter_async_context(receivers.place(SLOW))
        tasks = [asyncio.create_task(waiting(name)) for name in ("first", "gone", "second")]
        await asyncio.sleep(0)
        tasks[1].cancel()
    await asyncio.wait(tasks)
    assert ["first", "second"] == order


async def test_a_silent_host_is_asked_by_one_call_at_a_time() -> None:
    """Until it answers again."""
    receivers = Receivers(0.01)
    await call(receivers, SLOW, answered=False)
    async with receivers.place(SLOW) as probe:
        with pytest.raises(NoPlace, match=r"slow\.example has not answered its last callback"):
            await call(receivers, SLOW)
        await call(receivers, FAST)
        probe.answered = True
    async with receivers.place(SLOW), receivers.place(SLOW):
        pass


async def test_a_call_that_was_cancelled_tells_nothing() -> None:
    """The partition went to another worker, or the worker stops."""
    receivers = Receivers(0.01)
    await call(receivers, SLOW, answered=False)
    await call(receivers, SLOW, answered=None)
    async with receivers.place(SLOW):
        with pytest.raises(NoPlace):
            await call(receivers, SLOW)


async def test_everything_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls have sockets, waiting callbacks memory, and clients name the hosts."""
    monkeypatch.setattr(places, "MAX_CALLS", 2)
    monkeypatch.setattr(places, "MAX_WAITING", 0)
    monkeypatch.setattr(places, "MAX_HOSTS", 3)
    receivers = Receivers(60)
    for number in range(10):
        await call(receivers, f"https://{number}.example/", answered=False)
    async with receivers.place(FAST), receivers.place("https://9.example/"):
        with pytest.raises(NoPlace, match="this worker sends 2 callbacks already"):
            await call(receivers, "https://new.example/")
        with pytest.raises(NoPlace, match=r"9\.example has not answered"):
            await call(receivers, "https://9.example/")
    await call(receivers, "https://new.example/")
