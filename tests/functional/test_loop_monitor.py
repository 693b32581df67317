"""Handlers that block the event loop are named in the log."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from loaded_handlers import in_hand
from running_handlers import Bench, eventually, some_task

from agents.execution.user_functions import as_handler
from ebs import Context, Task, inline
from ebs.function import Function, Policy, name_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


HEARD_WITHIN_S = 5.0
"""So long a handler blocks the loop at most for the monitor to tell of it."""


class Listener(logging.Handler):
    """Lets a handler block until what it is waiting for has been logged."""

    def __init__(self, awaited: str) -> None:
        super().__init__()
        self.awaited = awaited
        self.heard = threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a line."""
        self.lines.append(record.getMessage())
        if self.awaited in record.getMessage():
            self.heard.set()


@pytest.fixture
def listen() -> Iterator[Callable[[str], Listener]]:
    """Return a factory of listeners to the monitor's log."""
    log = logging.getLogger("agents.execution.loop_monitor")
    made: list[Listener] = []

    def make(awaited: str) -> Listener:
        made.append(Listener(awaited))
        log.addHandler(made[-1])
        return made[-1]

    yield make
    for listener in made:
        log.removeHandler(listener)


async def until_told(block: Callable[[], Awaitable[Any]]) -> None:
    """Block the loop until the monitor has told of it.

    It tells once for each time that the loop stands still. If a busy machine let it stand before the handler did, that
    is what is told, and the loop must go on first.
    """
    for _ in range(6):
        if await block():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the monitor did not tell of it")


async def test_an_inline_handler_that_blocks_the_loop_is_named(
    make_bench: Callable[..., Bench], listen: Callable[[str], Listener]
) -> None:
    """While it blocks, once, with its place; and when it lets go, with the time it took."""
    listener = listen("handler shop:hog has blocked the event loop")

    def about_hog() -> list[str]:
        # With such a short limit, a busy machine blocks the loop too.
        return [line for line in listener.lines if "shop:hog" in line]

    @inline
    def hog(_task: Any, _context: Any) -> bool:
        heard = listener.heard.wait(HEARD_WITHIN_S)
        time.sleep(0.1)  # the monitor looks twenty times more
        return heard

    bench = make_bench(in_hand(hog, "shop:hog"), block_limit_s=0.02)
    await until_told(lambda: bench.run(in_hand(hog, "shop:hog")))
    await eventually(lambda: len(about_hog()) > 1)
    first, last = about_hog()
    assert "threading.py" in first
    assert "in Condition.wait: nothing else can run. Let it `await` slow calls" in first
    assert re.fullmatch(r"handler shop:hog: the event loop runs again, after \d+\.\d s", last)


async def test_a_coroutine_that_blocks_the_loop_is_named(
    make_bench: Callable[..., Bench], listen: Callable[[str], Listener]
) -> None:
    """Wherever in its calls it is, and after it has waited before."""
    listener = listen("handler shop:hog has blocked the event loop")

    async def deeper() -> bool:
        return listener.heard.wait(HEARD_WITHIN_S)

    async def hog(_task: Any, _context: Any) -> bool:
        await asyncio.sleep(0)
        return await deeper()

    bench = make_bench(in_hand(hog, "shop:hog"), block_limit_s=0.02)
    await until_told(lambda: bench.run(in_hand(hog, "shop:hog")))


async def test_content_whose_reading_blocks_the_loop_is_its_handlers(
    make_bench: Callable[..., Bench], listen: Callable[[str], Listener]
) -> None:
    """A type's own code runs before the handler begins, and what a split yields is read after it has."""
    listener = listen(
        f"handler {__name__}:test_content_whose_reading_blocks_the_loop_is_its_handlers.<locals>.read has"
    )
    waiting = listener.heard.wait

    class Slow(msgspec.Struct):
        def __post_init__(self) -> None:
            waiting(HEARD_WITHIN_S)

    async def read(_task: Task[Slow], _context: Context) -> bool:
        return listener.heard.is_set()

    handler = as_handler(Function(name_of(read), "task", "a", read, Policy(), msgspec.json.Decoder(Slow).decode))
    slow = in_hand(handler, name_of(read), mode="coroutine")
    bench = make_bench(in_hand(lambda _task, _context: None, "another"), block_limit_s=0.02)
    request = msgspec.structs.replace(some_task(), content=msgspec.Raw(b"{}"))
    await until_told(lambda: bench.executor.run(slow, request, bench.context(request)))


async def test_what_blocks_without_a_handler_is_reported_with_its_place(
    make_bench: Callable[..., Bench], listen: Callable[[str], Listener]
) -> None:
    """The worker's own code blocks the loop too, if it does."""
    listener = listen("in no handler. If that call is short")
    make_bench(block_limit_s=0.02)
    assert listener.heard.wait(30)
    assert re.match(r"the event loop has not run for \d+\.\d s, it is at ", listener.lines[0])


async def test_functions_of_one_factory_are_named_as_one_of_them(
    make_bench: Callable[..., Bench], listen: Callable[[str], Listener]
) -> None:
    """They share their code, which is all that a stack shows."""
    listener = listen("handler shop:a or shop:b has blocked the event loop")

    def make() -> Any:
        @inline
        def hog(_task: Any, _context: Any) -> bool:
            return listener.heard.wait(HEARD_WITHIN_S)

        return hog

    one, other = make(), make()
    bench = make_bench(in_hand(one, "shop:a"), in_hand(other, "shop:b"), in_hand(one, "shop:a"), block_limit_s=0.02)
    await until_told(lambda: bench.run(in_hand(other, "shop:b")))


async def longest_step_s(began_at_s: float, together_s: float) -> float:
    """Let the loop make short steps for so long; returns how long the longest took."""
    longest_s, last_s = 0.0, began_at_s
    while last_s < began_at_s + together_s:
        await asyncio.sleep(0)
        now_s = time.monotonic()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    return longest_s


async def test_a_loop_that_continues_is_not_reported(
    make_bench: Callable[..., Bench], listen: Callable[[str], Listener]
) -> None:
    """Many short steps are not a block, however long they take together."""
    listener = listen("")
    limit_s = 0.3
    for _ in range(30):
        listener.lines.clear()
        began_at_s = time.monotonic()
        bench = make_bench(block_limit_s=limit_s)
        if await longest_step_s(began_at_s, 3 * limit_s) < limit_s:
            break
        bench.executor._monitor.stop()  # a machine that stood still itself proves nothing: once more
    else:
        raise AssertionError(f"the machine stands still for {limit_s} s again and again")
    assert [] == listener.lines
