"""Batch functions: one call for many tasks, each with an outcome of its own, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from batch_functions import CALLS, SIZE, SORTS
from fakes import settle, until
from histories import task_event
from loaded_handlers import LONG_S, by_name
from running_handlers import NOW_MS, eventually

from agents.execution import batch_call
from app.errors import HandlerError, ProcessDied, TimeLimitExceeded
from app.events import TaskCreated
from ebs import Context, Reject, Retry, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from running_handlers import Bench

    from agents.execution.loading import CallSize, LoadedHandler


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    """Forget the calls of other tests."""
    CALLS.clear()


def function(sort: str, **batch: Any) -> LoadedHandler:
    """Return the batch function of a sort, as a worker loads it."""
    loaded = by_name(sort, project="batch_functions")
    return replace(loaded, batch=replace_in(loaded.batch, **batch)) if batch else loaded


def replace_in(batch: CallSize | None, **how: Any) -> CallSize:
    """Return how a function's tasks are put together, changed."""
    assert batch is not None
    return batch._replace(**how)


def contexts_of(*contents: Any, attempt: int = 1, limit_s: float = LONG_S) -> list[Context]:
    """Return the contexts of one attempt at each of an object's tasks."""
    found = []
    for number, content in enumerate(contents):
        task: TaskCreated = task_event(TaskCreated, "o1", number, at_ms=NOW_MS, attempt=attempt)
        request = msgspec.structs.replace(task, content=msgspec.Raw(msgspec.json.encode(content)))
        found.append(Context(request, limit_s))  # type: ignore[arg-type]  # the request, until it is read
    return found


async def ends_of(bench: Bench, loaded: LoadedHandler, contexts: list[Context]) -> list[Any]:
    """Run attempts together; returns their results and errors."""
    ends = await asyncio.gather(*(bench.begin(loaded, one) for one in contexts), return_exceptions=True)
    return [msgspec.json.decode(one) if isinstance(one, msgspec.Raw) else one for one in ends]


def said(ends: list[Any]) -> list[Any]:
    """Return results, and errors in words."""
    return [f"{type(one).__name__}: {one}" if isinstance(one, BaseException) else one for one in ends]


@pytest.mark.parametrize("sort", SORTS)
async def test_each_task_has_the_outcome_in_its_place(make_bench: Callable[..., Bench], sort: str) -> None:
    """A result, an error of any sort, or a content that does not fit: the others do not notice."""
    loaded = function(sort, size=8)
    bench = make_bench(loaded)
    contexts = contexts_of("a", "error", 7, "reject", "retry", "exit", "b", "c")
    ends = await ends_of(bench, loaded, contexts)
    assert [
        "a!",
        "ValueError: not this one",
        "Reject: the content does not fit str: Expected `str`, got `int`",
        "Reject: never",
        "Retry: busy",
        "HandlerError: handler batch_functions:NAME returned SystemExit: 2".replace("NAME", sort),
        "b!",
        "c!",
    ] == said(ends) or sort == "process"
    assert 2.5 == ends[4].delay_s
    if sort == "process":
        assert ["a!", "b!", "c!"] == [ends[0], *ends[6:]]
        assert [ValueError, Reject, Reject, Retry, HandlerError] == [type(one) for one in ends[1:6]]
    else:
        assert [["a", "error", "reject", "retry", "exit", "b", "c"]] == CALLS  # the unfit one is left out


@pytest.mark.parametrize("sort", SORTS)
async def test_what_a_task_produces_and_says_is_its_own(make_bench: Callable[..., Bench], sort: str) -> None:
    """By `context.of(task)`: it goes with the outcome of that task."""
    loaded = function(sort)
    bench = make_bench(loaded)
    contexts = contexts_of("a", "b", "c", "d")
    await ends_of(bench, loaded, contexts)
    for context, content in zip(contexts, "abcd", strict=True):
        outputs = context.close_outputs()
        assert outputs is not None
        assert [msgspec.json.encode(content)] == [one.content for one in outputs.objects]
    await eventually(lambda: all(one.last_progress is not None for one in contexts))
    assert ["a", "b", "c", "d"] == [one.last_progress[1] for one in contexts if one.last_progress is not None]


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize(
    ("content", "end"),
    [
        ("raise", "ValueError: one of them is poison"),
        (
            "too few",
            "Reject: the function of kind SORT, batch_functions:SORT, got 1 task and returned a list of 0",
        ),
        (
            "no list",
            "Reject: the function of kind SORT, batch_functions:SORT, got 1 task and returned a dict: it ",
        ),
    ],
)
async def test_poison_is_found_in_the_same_attempt(
    make_bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture, sort: str, content: str, end: str
) -> None:
    """A call that fails says nothing of a task: each is called alone, and only what it does then counts."""
    loaded = function(sort)
    bench = make_bench(loaded)
    contexts = contexts_of("a", content, "b", "c")
    ends = said(await ends_of(bench, loaded, contexts))
    assert ["a!", "b!", "c!"] == [ends[0], *ends[2:]]
    assert ends[1].startswith(end.replace("SORT", sort))
    outputs = contexts[0].close_outputs()
    assert outputs is not None
    assert 1 == len(outputs.objects)  # and not that of the first call, too
    assert f"a call of handler batch_functions:{sort} with 4 tasks failed, so 4 of them are called alone" in caplog.text
    if sort != "process":
        assert [["a", content, "b", "c"], ["a"], [content], ["b"], ["c"]] == [CALLS[0], *sorted_as(CALLS[1:], content)]


def sorted_as(calls: list[list[str]], content: str) -> list[list[str]]:
    """Return calls of one task in the order of the tasks: threads may come in any."""
    return sorted(calls, key=lambda call: ["a", content, "b", "c"].index(call[0]))


async def test_process_that_dies_costs_only_the_task_that_ends_it(make_bench: Callable[..., Bench]) -> None:
    """It takes the call with it, and then itself alone."""
    loaded = function("process")
    bench = make_bench(loaded)
    ends = await ends_of(bench, loaded, contexts_of("a", "die", "b"))
    assert ["a!", "b!"] == [ends[0], ends[2]]
    assert isinstance(ends[1], ProcessDied)


@pytest.mark.parametrize("sort", SORTS)
async def test_retry_is_for_the_whole_call(make_bench: Callable[..., Bench], sort: str) -> None:
    """The function asks to wait: it is not called at once for each, and all of them wait as it says."""
    loaded = function(sort)
    bench = make_bench(loaded)
    ends = await ends_of(bench, loaded, contexts_of("a", "wait", "b"))
    assert [("busy", 7)] * 3 == [(str(one), one.delay_s) for one in ends]


async def test_no_task_dies_of_a_retry_that_another_one_causes(make_bench: Callable[..., Bench]) -> None:
    """In its last attempt each is called alone before it is given up."""
    loaded = function("coroutine")
    bench = make_bench(loaded)
    contexts = [*contexts_of("a", "wait", attempt=3), *contexts_of("b", "c", attempt=2)]
    for number, context in enumerate(contexts):
        context.task = msgspec.structs.replace(context.task, task_id=f"o1-{number}")
    assert ["a!", "Retry: busy", "Retry: busy", "Retry: busy"] == said(await ends_of(bench, loaded, contexts))
    assert [["a", "wait", "b", "c"], ["a"], ["wait"]] == CALLS


@pytest.mark.parametrize("sort", SORTS)
async def test_time_limit_is_that_of_a_call(make_bench: Callable[..., Bench], sort: str) -> None:
    """One slow task makes the call too slow, and is found alone; the others finish."""
    loaded = function(sort)
    bench = make_bench(loaded, process_count=2)
    await ends_of(bench, loaded, contexts_of("to start the processes"))
    ends = await ends_of(bench, loaded, contexts_of("a", "slow", "b", limit_s=0.5))
    assert ["a!", "b!"] == [ends[0], ends[2]]
    assert isinstance(ends[1], TimeLimitExceeded)
    await eventually(lambda: not bench.executor.abandoned_running_count)


async def test_call_starts_when_it_is_full(make_bench: Callable[..., Bench]) -> None:
    """And the next one is gathered."""
    loaded = function("coroutine", wait_s=60)
    bench = make_bench(loaded)
    contexts = contexts_of(*"abcdef")
    runs = [bench.begin(loaded, one) for one in contexts]
    assert ["a!", "b!", "c!", "d!"] == await asyncio.gather(*runs[:SIZE])
    assert ([["a", "b", "c", "d"]], 2) == (CALLS, bench.executor.calls.waiting_count)
    bench.executor.calls.hurry()
    assert ["e!", "f!"] == await asyncio.gather(*runs[SIZE:])


async def test_call_of_few_tasks_starts_when_the_first_has_waited(make_bench: Callable[..., Bench]) -> None:
    """The time that it waits is not the function's: the clock of the context starts with the call."""
    loaded = function("coroutine", wait_s=0.05)
    bench = make_bench(loaded)
    began_at_s = asyncio.get_running_loop().time()
    contexts = contexts_of("a", "b")
    assert ["a!", "b!"] == await ends_of(bench, loaded, contexts)
    assert all(one.began_at_s >= began_at_s + 0.04 for one in contexts)
    assert [["a", "b"]] == CALLS


async def test_call_of_large_contents_is_full_before(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand contents of a megabyte each would not fit into memory, or into a pipe."""
    monkeypatch.setattr(batch_call, "MAX_CALL_BYTES", 50)
    loaded = function("coroutine", wait_s=60)
    bench = make_bench(loaded)
    await ends_of(bench, loaded, contexts_of("x" * 30, "y" * 30))
    assert [["x" * 30, "y" * 30]] == CALLS


async def test_attempt_that_is_cancelled_leaves_its_call(make_bench: Callable[..., Bench]) -> None:
    """While the call is gathered, and while it runs: the others go on."""
    loaded = function("thread", size=3, wait_s=60)
    bench = make_bench(loaded)
    contexts = contexts_of("a", "b", "slow", "c")
    runs = [bench.begin(loaded, one) for one in contexts]
    await settle()
    runs[0].cancel()
    await settle()
    assert 2 == bench.executor.calls.running_count + 1  # b, slow and c are one call
    runs[1].cancel()
    runs[2].cancel()
    await settle()
    assert (True, True, False) == (contexts[1].cancelled, contexts[2].cancelled, contexts[3].cancelled)
    assert not runs[3].done()
    runs[3].cancel()
    await asyncio.wait(runs)
    assert [True] * 4 == [one.cancelled() for one in runs]
    await eventually(lambda: not bench.executor.abandoned_running_count)  # told by context.cancelled
    assert (0, 0) == (bench.executor.calls.running_count, bench.executor.calls.waiting_count)


async def test_coroutine_of_a_call_that_nobody_is_in_is_cancelled(make_bench: Callable[..., Bench]) -> None:
    """And each attempt waits for its end, so that nothing overlaps with the next run."""
    loaded = function("coroutine", wait_s=0)
    bench = make_bench(loaded)
    runs = [bench.begin(loaded, one) for one in contexts_of("slow", "a")]
    await until(lambda: bench.executor.calls.running_count == 1)
    for run in runs:
        run.cancel()
    await asyncio.wait(runs)
    assert ([], 0) == (CALLS, bench.executor.calls.running_count)


async def test_ready_call_waits_for_a_place_and_takes_others_in_meanwhile(make_bench: Callable[..., Bench]) -> None:
    """What could not start anyway may as well be larger."""
    loaded = function("coroutine", wait_s=0)
    bench = make_bench(loaded)
    places = 0
    bench.executor.calls.has_place = lambda: bench.executor.calls.running_count < places
    contexts = contexts_of(*"abcdef")
    runs = [bench.begin(loaded, contexts[0])]
    await until(lambda: bench.executor.calls.ready_count == 1)
    runs += [bench.begin(loaded, one) for one in contexts[1:]]
    await until(lambda: bench.executor.calls.ready_count == 2)
    runs[5].cancel()
    await settle()
    places = 1
    bench.executor.calls.start_ready()
    await asyncio.wait(runs)
    assert [["a", "b", "c", "d"], ["e"]] == CALLS


async def test_last_of_a_call_that_waits_for_a_place_takes_it_away(make_bench: Callable[..., Bench]) -> None:
    """It must not keep a place from others."""
    loaded = function("coroutine", wait_s=0)
    bench = make_bench(loaded)
    bench.executor.calls.has_place = lambda: False
    run = bench.begin(loaded, contexts_of("a")[0])
    await until(lambda: bench.executor.calls.ready_count == 1)
    run.cancel()
    await asyncio.wait([run])
    assert (0, 0) == (bench.executor.calls.ready_count, bench.executor.calls.waiting_count)


@pytest.mark.parametrize("sort", SORTS)
async def test_suspect_runs_alone_and_apart(make_bench: Callable[..., Bench], sort: str) -> None:
    """What may have ended a worker is in a call of its own, in a process."""
    loaded = function(sort)
    bench = make_bench(loaded)
    context, bad, poison = contexts_of("a", "error", "die")
    assert b'"a!"' == bytes(await bench.executor.run_apart(loaded, context.task, context))  # type: ignore[arg-type]
    outputs = context.close_outputs()
    assert outputs is not None
    assert 1 == len(outputs.objects)
    with pytest.raises(ValueError, match="not this one"):
        await bench.executor.run_apart(loaded, bad.task, bad)  # type: ignore[arg-type]
    with pytest.raises(HandlerError, match=r"run alone, the process of handler .* ended with exit code 3"):
        await bench.executor.run_apart(loaded, poison.task, poison)  # type: ignore[arg-type]


async def test_outputs_of_a_call_need_a_task(make_bench: Callable[..., Bench]) -> None:
    """`context.submit` would not say whose object it is: the message says what to write."""
    seen: list[Any] = []

    async def careless(tasks: list[Task], context: Any) -> list[None]:
        seen.append(context)
        for write in (context.submit, context.send):
            with pytest.raises(Reject, match=r"write context\.of\(task\)\."):
                write("part", 1, 2)
        with pytest.raises(Reject, match=r"write task\.attempt"):
            _ = context.attempt
        with pytest.raises(Reject, match="not one of this call"):
            context.of(msgspec.structs.replace(tasks[0], task_id="another"))
        context.log.info("%d tasks", len(tasks))
        context.progress(1, "all")
        return [None] * len(tasks)

    loaded = made(careless)
    bench = make_bench(loaded)
    contexts = contexts_of("a", "b")
    assert [None, None] == await ends_of(bench, loaded, contexts)
    assert ["all", "all"] == [one.last_progress[1] for one in contexts if one.last_progress is not None]
    assert 0 < seen[0].remaining_s <= LONG_S


def made(call: Any, **policy: Any) -> LoadedHandler:
    """Return a function of a test as a batch function."""
    from agents.execution.loading import handlers_of, limits_of  # noqa: PLC0415
    from app.settings.settings import Settings  # noqa: PLC0415
    from ebs import Project  # noqa: PLC0415

    project = Project()
    project.task("a", **({"batch": SIZE, "batch_wait_s": 0} | policy))(call)
    return handlers_of(project, "", limits_of(Settings())).for_kind("a")


async def test_forgotten_async_is_told(make_bench: Callable[..., Bench]) -> None:
    """A plain function that returns what somebody should have awaited."""

    async def slow(tasks: list[Task]) -> list[None]:
        return [None] * len(tasks)

    def plain(tasks: list[Task], _context: Any) -> Any:
        return slow(tasks)

    loaded = made(plain)
    bench = make_bench(loaded)
    (end,) = await ends_of(bench, loaded, contexts_of("a"))
    assert "returned a coroutine: it must return a list of 1: write it as `async def`" in str(end)


async def test_left_over_of_a_call_adds_nothing(make_bench: Callable[..., Bench]) -> None:
    """The thread of a call that took too long runs on, beside the calls of each task alone."""
    late, let_go = [], threading.Event()

    def two_times(tasks: list[Task], context: Any) -> list[str]:
        if len(tasks) > 1:
            let_go.wait(30)
            for task in tasks:
                with pytest.raises(Reject, match="so this would have no effect"):
                    context.of(task).submit("part", "late")
                late.append(context.of(task).cancelled)
        else:
            context.of(tasks[0]).submit("part", "alone")
            let_go.set()
        return ["done"] * len(tasks)

    loaded = made(two_times)
    bench = make_bench(loaded)
    contexts = contexts_of("a", "b", limit_s=0.3)
    assert ["done", "done"] == await ends_of(bench, loaded, contexts)
    await eventually(lambda: late == [True, True])
    for one in contexts:
        outputs = one.close_outputs()
        assert outputs is not None
        assert [b'"alone"'] == [made.content for made in outputs.objects]


async def test_end_of_the_worker_ends_calls(make_bench: Callable[..., Bench]) -> None:
    """Those that are gathered, ready or running: nothing of them is left in the loop."""
    loaded = function("coroutine", wait_s=0)
    bench = make_bench(loaded)
    runs = [bench.begin(loaded, one) for one in contexts_of("slow", "a")]
    await until(lambda: bench.executor.calls.running_count == 1)
    bench.executor.calls.close()
    await asyncio.wait(runs)
    assert [True, True] == [one.cancelled() for one in runs]
    assert (0, 0) == (bench.executor.calls.running_count, bench.executor.calls.waiting_count)
