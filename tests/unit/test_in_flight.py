"""Bytes in flight: lent in turn, given back, refused when they are not free in time."""

from __future__ import annotations

import asyncio

import pytest

from api.submit.in_flight import BrokerBehind, InFlight


async def test_waiting_requests_are_served_in_turn():
    """Who came first is served first, also where a later one would fit."""
    lent, order = InFlight(10), []

    async def take(name: str, size: int) -> None:
        async with lent.hold(size, 10):
            order.append(name)

    async with lent.hold(8, 0):
        tasks = [asyncio.create_task(take("large", 5)), asyncio.create_task(take("small", 1))]
        await asyncio.sleep(0)
        assert [] == order
    await asyncio.gather(*tasks)
    assert ["large", "small"] == order


async def test_what_is_not_free_in_time_is_refused():
    """At once without patience, after it with some; nothing is lost of what is lent."""
    lent = InFlight(10)
    async with lent.hold(8, 0):
        for wait_s in (0, 0.01):
            with pytest.raises(BrokerBehind, match="EBS_MAX_IN_FLIGHT_BYTES"):
                async with lent.hold(3, wait_s):
                    raise AssertionError("it was lent")
    async with lent.hold(10, 0):
        pass


async def test_one_over_the_limit_is_served_alone():
    """Other settings bound a single request."""
    lent = InFlight(10)
    async with lent.hold(99, 0):
        with pytest.raises(BrokerBehind):
            async with lent.hold(1, 0):
                raise AssertionError("it was lent")
    async with lent.hold(1, 0):
        pass


async def test_what_waits_is_bounded_too():
    """Waiting bytes are held in memory: no more of them than may be in flight."""
    lent = InFlight(10)

    async def take(size: int) -> None:
        async with lent.hold(size, 10):
            pass

    async with lent.hold(10, 0):
        waiting = asyncio.create_task(take(9))
        await asyncio.sleep(0)
        with pytest.raises(BrokerBehind):
            await take(2)
    await waiting


async def test_request_that_gives_up_leaves_its_place():
    """A cancelled request is served no more, in the very moment neither, and takes nothing with it."""
    lent = InFlight(10)

    async def take() -> None:
        async with lent.hold(9, 10):
            pass

    for served_first in (False, True):
        async with lent.hold(10, 0):
            waiting = asyncio.create_task(take())
            await asyncio.sleep(0)
            if not served_first:
                waiting.cancel()
                await asyncio.wait([waiting])
        waiting.cancel()
        await asyncio.wait([waiting])
        async with lent.hold(10, 0):
            pass
