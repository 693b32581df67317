"""Handlers that run in the loop and in threads: results, errors, limits, cancelling."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from fakes import settle, until
from loaded_handlers import by_name, in_hand
from running_handlers import Bench, eventually

from app.errors import HandlerError, TimeLimitExceeded
from ebs import Context, Reject, Retry, inline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SORTS = ("coroutine", "plain")


@pytest.fixture
async def bench(make_bench: Callable[..., Bench]) -> Bench:
    """Return a bench."""
    return make_bench()


class Stuck:
    """A plain handler that ends when the test says so, and knows whether it was told to end before."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.contexts: list[Context] = []

    def __call__(self, _task: Any, context: Context) -> str:
        """Wait."""
        self.contexts.append(context)
        self.release.wait()
        return "late"


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    """Return a handler that hangs until the test lets it go, or is over."""
    handler = Stuck()
    yield handler
    handler.release.set()


@pytest.mark.parametrize("name", ["at_once", "coroutine", "plain", "instance", "instance.method", "partial"])
async def test_every_sort_of_handler_returns_its_result(bench: Bench, name: str) -> None:
    """However it is written."""
    assert "the content" == await bench.run(by_name(name), "the content")


async def test_each_sort_runs_in_its_place(bench: Bench) -> None:
    """Coroutines and inline handlers run in the loop's thread, plain ones in a daemon thread of their own."""

    async def coroutine(_task: Any, _context: Any) -> threading.Thread:
        return threading.current_thread()

    def plain(_task: Any, _context: Any) -> threading.Thread:
        return threading.current_thread()

    @inline
    def at_once(_task: Any, _context: Any) -> threading.Thread:
        return threading.current_thread()

    here = threading.current_thread()
    assert [here, here] == [await bench.run(in_hand(coroutine)), await bench.run(in_hand(at_once))]
    other = await bench.run(in_hand(plain))
    assert isinstance(other, threading.Thread)
    assert (True, "ebs-handler") == (other.daemon, other.name)


def failing(sort: str, error: BaseException) -> Any:
    """Return a handler that raises."""

    async def coroutine(_task: Any, _context: Any) -> None:
        raise error

    def plain(_task: Any, _context: Any) -> None:
        raise error

    return in_hand({"coroutine": coroutine, "plain": plain}[sort])


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("error", [ValueError("no"), Retry(3), Reject("no image"), TimeoutError("its own")])
async def test_what_a_handler_raises_comes_out_unchanged(bench: Bench, sort: str, error: Exception) -> None:
    """The engine decides by type, so nothing may be wrapped; a TimeoutError of its own is no time limit."""
    with pytest.raises(type(error)) as caught:
        await bench.run(failing(sort, error))
    assert error is caught.value


class Panic(BaseException):
    """What a Rust extension raises (PyO3's PanicException is no Exception)."""


class MutePanic(Panic):
    """Another one, whose text is not to be had."""

    def __str__(self) -> str:
        raise Panic


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Panic("index out of bounds"), "handler shop:work raised Panic: index out of bounds"),
        (MutePanic(), "handler shop:work raised MutePanic: (its text cannot be had: Panic)"),
        (GeneratorExit("odd"), "handler shop:work raised GeneratorExit: odd"),
        (SystemExit(2), "handler shop:work raised SystemExit: 2"),
        (KeyboardInterrupt(), "handler shop:work raised KeyboardInterrupt: "),
        (asyncio.CancelledError("of its own"), "handler shop:work raised CancelledError: of its own"),
    ],
)
async def test_nothing_that_a_handler_raises_ends_the_worker(
    bench: Bench, sort: str, error: BaseException, words: str
) -> None:
    """`sys.exit()` in a handler fails a task: if it ended the worker, the task would end the next one too."""
    with pytest.raises(HandlerError) as caught:
        await bench.run(failing(sort, error))
    assert (words, error) == (str(caught.value), caught.value.__cause__)


@pytest.mark.parametrize("sort", SORTS)
async def test_a_stop_iteration_fails_its_task_only(bench: Bench, sort: str) -> None:
    """The one exception that a future cannot carry."""
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await bench.run(failing(sort, StopIteration("next")))


class Failure(Exception):
    """An error that can be watched."""


@pytest.mark.parametrize("sort", SORTS)
async def test_an_error_is_gone_when_nobody_holds_it(bench: Bench, sort: str) -> None:
    """Without a collector's help: at thousands of failures a second what lies about would cost all tasks time."""
    seen: list[weakref.ref[BaseException]] = []

    def watched() -> Failure:
        error = Failure()
        seen.append(weakref.ref(error))
        return error

    async def coroutine(_task: Any, _context: Any) -> None:
        raise watched()

    def plain(_task: Any, _context: Any) -> None:
        raise watched()

    handler = in_hand({"coroutine": coroutine, "plain": plain}[sort])
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            with pytest.raises(Failure):
                await bench.run(handler)
        # A thread lets go of its last error when it takes the next task.
        assert seen[0]() is None
    finally:
        gc.enable()


async def test_the_clock_of_a_handler_starts_with_it(bench: Bench) -> None:
    """The deadline is where the event loop's own timeouts want it."""
    context = bench.context(limit_s=10.0)
    context.began_at_s = 1.0  # somebody looked at the deadline before
    before_s = asyncio.get_running_loop().time()
    await bench.executor.run(by_name("coroutine"), context.task, context)
    assert before_s + 9.9 < context.deadline < asyncio.get_running_loop().time() + 10.1


async def test_a_coroutine_over_its_limit_is_cancelled(bench: Bench) -> None:
    """It gets CancelledError and time to clean up; what it returns then does not count."""
    seen: list[Any] = []

    async def slow(_task: Any, context: Context) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            seen.append(context.cancelled)
        return "late"

    with pytest.raises(TimeLimitExceeded) as caught:
        await bench.run(in_hand(slow), limit_s=0.01)
    assert "handler shop:work took more than 0.01 s (its time_limit_s, or EBS_TASK_TIME_LIMIT_S)" == str(caught.value)
    assert ([True], 0) == (seen, bench.executor.abandoned_count)


async def test_a_coroutine_that_swallows_its_cancellation_is_left_behind(
    make_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    """Its place in the pool is free again, it is counted and named; its late error is nobody's business."""
    bench = make_bench(cleanup_limit_s=0.01)
    release = asyncio.Event()
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, complaint: complaints.append(complaint))

    async def stubborn(_task: Any, _context: Any) -> None:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()
        raise ValueError("late")

    with pytest.raises(TimeLimitExceeded):
        await bench.run(in_hand(stubborn), limit_s=0.01)
    assert (1, 1) == (bench.executor.abandoned_count, bench.executor.abandoned_running_count)
    assert "handler shop:work of task o1-0 does not end although it was cancelled" in caplog.text
    release.set()
    await until(lambda: not bench.executor.abandoned_running_count)
    await settle()
    gc.collect()
    assert (1, []) == (bench.executor.abandoned_count, complaints)


async def test_a_cancelled_run_ends_its_coroutine_first(bench: Bench) -> None:
    """Cancelling waits for the handler's own cleaning up, so that nothing of it overlaps with the next run."""
    clean, ended = asyncio.Event(), asyncio.Event()

    async def tidy(_task: Any, _context: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await clean.wait()
            ended.set()

    context = bench.context()
    run = bench.begin(in_hand(tidy), context)
    await settle()
    run.cancel()
    await settle()
    assert (True, False) == (context.cancelled, run.done())
    clean.set()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (True, 0) == (ended.is_set(), bench.executor.abandoned_count)


async def test_a_run_cancelled_twice_waits_no_longer(bench: Bench) -> None:
    """The second time is for those in a hurry: the handler is left behind at once."""
    clean = asyncio.Event()

    async def tidy(_task: Any, _context: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await clean.wait()

    run = bench.begin(in_hand(tidy), bench.context())
    await settle()
    run.cancel()
    await settle()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert 1 == bench.executor.abandoned_running_count
    clean.set()
    await until(lambda: not bench.executor.abandoned_running_count)


async def test_a_thread_over_its_limit_is_left_behind_and_counted(
    bench: Bench, stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody can end a thread: it is told, and takes part again when it has ended after all."""
    with pytest.raises(TimeLimitExceeded, match=r"took more than 0\.01 s"):
        await bench.run(in_hand(stuck), limit_s=0.01)
    await eventually(lambda: stuck.contexts)  # a busy machine may let the thread begin after its limit
    assert [True] == [context.cancelled for context in stuck.contexts]
    assert (1, 1) == (bench.executor.abandoned_count, bench.executor.abandoned_running_count)
    assert "handler shop:work of task o1-0 still runs in an abandoned thread (1 now)" in caplog.text
    stuck.release.set()
    await eventually(lambda: not bench.executor.abandoned_running_count)
    assert "late" == await bench.run(in_hand(stuck))
    assert (1, 1) == (bench.executor.abandoned_count, bench.executor._threads.thread_count)


async def test_a_cancelled_thread_is_reported_and_abandoned(bench: Bench, stuck: Stuck) -> None:
    """Cancelling does not wait for it."""
    context = bench.context()
    run = bench.begin(in_hand(stuck), context)
    await eventually(lambda: stuck.contexts)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (True, 1) == (stuck.contexts[0].cancelled, bench.executor.abandoned_running_count)


async def test_abandoned_threads_take_no_place(bench: Bench, stuck: Stuck) -> None:
    """However many hang, the next task finds a thread."""
    runs = [bench.begin(in_hand(stuck), bench.context(limit_s=0.01)) for _ in range(100)]
    ended = await asyncio.gather(*runs, return_exceptions=True)
    assert [TimeLimitExceeded] * 100 == [type(error) for error in ended]
    assert "on" == await bench.run(by_name("plain"), "on")
    assert 100 == bench.executor.abandoned_running_count
    stuck.release.set()
    await eventually(lambda: not bench.executor.abandoned_running_count)
    # Those that are not needed any more end.
    assert 64 == bench.executor._threads.thread_count


async def test_as_many_threads_work_as_there_are_tasks(bench: Bench) -> None:
    """How many run at once is the caller's decision: a hundred meet here, one after another they never would."""
    meeting = threading.Barrier(100)
    runs = [bench.begin(in_hand(lambda _task, _context: meeting.wait(50)), bench.context()) for _ in range(100)]
    assert list(range(100)) == sorted(await asyncio.gather(*runs))


async def test_threads_are_used_again(bench: Bench) -> None:
    """One after another, all tasks need one thread."""
    for _ in range(20):
        await bench.run(by_name("plain"))
    assert 1 == bench.executor._threads.thread_count


async def test_a_context_works_in_a_thread(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Progress and log lines go where they go from a coroutine."""

    def work(_task: Any, context: Context) -> None:
        context.progress(0.4, "resized")
        context.log.warning("odd colours")

    context = bench.context()
    await bench.begin(in_hand(work), context)
    assert context.last_progress is not None
    assert (0.4, "resized") == context.last_progress[:2]
    assert "task o1-0, attempt 1: odd colours" in caplog.messages


HANGING_WORKER = """
import asyncio, threading
from loaded_handlers import in_hand
from running_handlers import Bench

def hang(task, context):
    started.set()
    threading.Event().wait()

async def main():
    bench = Bench(in_hand(hang))
    run = bench.begin(in_hand(hang), bench.context())
    await asyncio.to_thread(started.wait)
    run.cancel()
    await bench.executor.close()

started = threading.Event()
asyncio.run(main())
print("ended")
"""


def test_a_thread_that_hangs_does_not_keep_the_worker_from_ending() -> None:
    """A worker that was told to stop stops, with exit code 0."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{HANGING_WORKER}"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (0, "ended\n") == (ended.returncode, ended.stdout), ended.stderr
