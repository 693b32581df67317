"""One computation for all who follow it, the newest result to each."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from contextvars import ContextVar

import pytest
from fakes import settle

from api.server.broadcast import Broadcast, ComputationFailed

FOREVER_S = 3_600.0
NOW_S = 0.0


class Source:
    """What is computed: the result, how often it was asked, and a gate that may hold it up."""

    def __init__(self, result: str = "a") -> None:
        self.result = result
        self.failure: BaseException | None = None
        self.count = 0
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def compute(self) -> str:
        """Return the result as it was when the computation began."""
        self.count += 1
        result = self.result
        await self.may_end.wait()
        if self.failure is not None:
            raise self.failure
        return result


async def newest(following) -> str:
    """Return what comes next."""
    async with asyncio.timeout(30):
        return await anext(following)


async def test_all_followers_share_one_computation():
    """Two at once cost one; they get the very same object."""
    source = Source()
    broadcast = Broadcast(source.compute, FOREVER_S)
    async with aclosing(broadcast.follow()) as one, aclosing(broadcast.follow()) as other:
        first, second = await asyncio.gather(newest(one), newest(other))
    assert first is second
    assert 1 == source.count


async def test_newcomer_need_not_wait_for_the_next_round():
    """Its result was begun after it came; who follows already gets it as well."""
    source = Source()
    broadcast = Broadcast(source.compute, FOREVER_S)
    async with aclosing(broadcast.follow()) as one, aclosing(broadcast.follow()) as late:
        assert "a" == await newest(one)
        source.result = "b"
        assert ["b", "b"] == [await newest(late), await newest(one)]
    assert 2 == source.count


async def test_newcomer_takes_no_result_that_was_begun_before_it_came():
    """It may have seen newer things elsewhere: the page that its browser has just drawn."""
    source = Source("old")
    broadcast = Broadcast(source.compute, FOREVER_S)
    source.may_end.clear()
    async with aclosing(broadcast.follow()) as one, aclosing(broadcast.follow()) as late:
        waiting = asyncio.create_task(newest(one))
        await settle()
        source.result = "new"
        coming = asyncio.create_task(newest(late))
        await settle()
        source.may_end.set()
        assert "new" == await coming
        await waiting
    assert 2 == source.count


async def test_result_is_sent_only_when_it_has_changed():
    """Rounds without news say nothing, to newcomers the state all the same."""
    source = Source()
    broadcast = Broadcast(source.compute, NOW_S)
    async with aclosing(broadcast.follow()) as one:
        assert "a" == await newest(one)
        waiting = asyncio.create_task(newest(one))
        await settle(50)
        assert source.count > 2
        assert not waiting.done()
        async with aclosing(broadcast.follow()) as late:
            assert "a" == await newest(late)
        source.result = "b"
        assert "b" == await waiting


async def test_slow_follower_gets_the_newest_and_holds_up_nobody():
    """What it missed is gone."""
    source = Source("0")
    broadcast = Broadcast(source.compute, NOW_S)
    async with aclosing(broadcast.follow()) as quick, aclosing(broadcast.follow()) as slow:
        assert ["0", "0"] == [await newest(quick), await newest(slow)]
        for number in range(1, 10):
            source.result = str(number)
            assert str(number) == await newest(quick)
        assert "9" == await newest(slow)


async def test_last_follower_ends_the_computation():
    """No task is left, also of one that is under way; who comes later starts it again."""
    source = Source()
    broadcast = Broadcast(source.compute, NOW_S)
    before = asyncio.all_tasks()
    async with aclosing(broadcast.follow()) as one:
        async with aclosing(broadcast.follow()) as other:
            await asyncio.gather(newest(one), newest(other))
        assert "a" == source.result
        assert broadcast.is_followed
        source.may_end.clear()
        await settle()
    await settle()
    assert (before, False) == (asyncio.all_tasks(), broadcast.is_followed)
    count = source.count
    source.may_end.set()
    source.result = "b"
    async with aclosing(broadcast.follow()) as again:
        assert "b" == await newest(again)
    await settle()
    assert (before, True) == (asyncio.all_tasks(), source.count > count)


@pytest.mark.parametrize("failure", [ValueError("odd"), TimeoutError(), asyncio.CancelledError()])
async def test_failure_reaches_everybody_and_the_next_starts_again(failure):
    """Each gets an exception of its own with the cause; nobody waits for ever."""
    source = Source()
    broadcast = Broadcast(source.compute, NOW_S)
    source.failure = failure
    async with aclosing(broadcast.follow()) as one, aclosing(broadcast.follow()) as other:
        told = await asyncio.gather(newest(one), newest(other), return_exceptions=True)
    assert [ComputationFailed] * 2 == [type(error) for error in told]
    assert [failure] * 2 == [error.__cause__ for error in told]
    assert told[0] is not told[1]
    source.failure = None
    async with aclosing(broadcast.follow()) as again:
        assert "a" == await newest(again)


async def test_computation_that_is_cancelled_late_is_no_failure_of_the_next():
    """The last one leaves while it computes, and somebody comes at the same moment."""
    source = Source()
    broadcast = Broadcast(source.compute, NOW_S)
    leaving = broadcast.follow()
    assert "a" == await newest(leaving)
    source.may_end.clear()
    await settle()
    source.result = "b"
    async with aclosing(broadcast.follow()) as late:
        coming = asyncio.create_task(newest(late))  # runs before the cancelled computation does
        await leaving.aclose()
        source.may_end.set()
        assert "b" == await coming


async def test_heartbeat_comes_after_a_while_without_news():
    """Again and again, and the news all the same."""
    source = Source()
    broadcast = Broadcast(source.compute, NOW_S)
    async with aclosing(broadcast.follow(("still here", 0.01))) as following:
        assert ["a", "still here", "still here"] == [await newest(following) for _ in range(3)]
        source.result = "b"
        async with asyncio.timeout(30):
            async for one in following:
                if one != "still here":
                    break
        assert "b" == one


async def test_close_lets_everybody_go():
    """Those who wait, and those who come after it."""
    broadcast = Broadcast(Source().compute, FOREVER_S)
    following = broadcast.follow()
    assert "a" == await newest(following)
    waiting = asyncio.create_task(newest(following))
    await settle()
    broadcast.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    with pytest.raises(StopAsyncIteration):
        await newest(broadcast.follow())


async def test_computation_has_no_context_of_the_first_follower():
    """A trace of one request must not collect what is computed for all."""
    mark = ContextVar("mark", default="none")

    async def compute() -> str:
        return mark.get()

    mark.set("of a request")
    async with aclosing(Broadcast(compute, FOREVER_S).follow()) as following:
        assert "none" == await newest(following)
