"""@cpu_bound handlers in real processes: results, errors, limits, cancelling, and what is left of them: nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio
from loaded_handlers import LONG_S, by_name
from running_handlers import Bench, eventually, is_alive, some_task

from app.errors import HandlerCrashed, HandlerError, NoProcess, ProcessDied, TimeLimitExceeded
from ebs import Reject, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ebs import Context

pytestmark = pytest.mark.asyncio(loop_scope="module")
"""Starting a process takes a third of a second, so the tests share them."""

END = by_name("end", max_result_bytes=1_000)
NEVER_END = by_name("never_end")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    """Return a bench with one process, which is closed at the end."""
    bench = Bench(*map(by_name, ("compute", "end", "never_end", "log_lines", "end_in_the_loop")))
    yield bench
    await bench.executor.close()


async def compute(bench: Bench, content: str = "some content", *, attempt: int = 1) -> dict[str, Any]:
    """Run a handler that says what it sees."""
    context = bench.context(some_task(content, attempt=attempt))
    result = await bench.executor.run(by_name("compute"), context.task, context)
    assert isinstance(result, msgspec.Raw)
    seen: dict[str, Any] = msgspec.json.decode(result)
    return seen


async def pid_of(context: Context) -> int:
    """Wait until `never_end` has said where it runs."""
    await eventually(lambda: context.last_progress)
    assert context.last_progress is not None
    return int(context.last_progress.message)


async def test_a_handler_computes_in_a_process_that_stays(bench: Bench) -> None:
    """It sees its task and context; the next task finds the same process, ready."""
    seen = await compute(bench, "größer\n", attempt=2)
    assert os.getpid() != seen["pid"]
    assert ("größer\n", 2, False) == (seen["content"], seen["attempt"], seen["cancelled"])
    assert LONG_S - 5 < seen["remaining_s"] <= LONG_S
    assert seen["pid"] == (await compute(bench))["pid"]


async def test_progress_comes_out_of_a_process(bench: Bench) -> None:
    """While the handler still runs."""
    pid = (await compute(bench))["pid"]
    context = bench.context()
    run = bench.begin(NEVER_END, context)
    assert pid == await pid_of(context)
    assert context.last_progress is not None
    assert (0.5, False) == (context.last_progress.fraction, run.done())
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("value error", ValueError, "seen"),
        ("timeout error", TimeoutError, "its own"),
        ("retry", Retry, "busy"),
        ("reject", Reject, "no image"),
        ("odd", HandlerError, "Odd: one and two"),
        ("unprintable", HandlerError, "Unprintable: (its text cannot be had: RuntimeError)"),
        ("panic", HandlerError, "Panic: of its own"),
        ("deadly to read", HandlerError, "Deadly: to read"),
        ("exit", HandlerError, "SystemExit: enough"),
        ("interrupt", HandlerError, "KeyboardInterrupt: "),
        ("no JSON", Reject, "the result, of type object, is not JSON: object has no form in JSON"),
        ("long", Reject, "the result has 2002 bytes of JSON, at most 1000 are kept: return less, or raise EBS_MAX_"),
        ("unknown", KeyError, "'unknown'"),
    ],
)
async def test_an_error_comes_out_of_a_process(bench: Bench, content: str, error: type[Exception], words: str) -> None:
    """With its type where that can travel, and with the stack trace of the process; the process lives on."""
    pid = (await compute(bench))["pid"]
    with pytest.raises(error) as caught:
        await bench.run(END, content)
    assert error is type(caught.value)
    assert str(caught.value).startswith(words)
    assert "sample_handlers.py" in caught.value.__notes__[0] or "results.py" in caught.value.__notes__[0]
    assert pid == (await compute(bench))["pid"]


async def test_a_retry_keeps_its_delay(bench: Bench) -> None:
    """The delay is what the engine wants to know."""
    with pytest.raises(Retry) as caught:
        await bench.run(END, "retry")
    assert 2.5 == caught.value.delay_s


@pytest.mark.parametrize(("content", "code"), [("die", 3), ("killed", -9), ("stopped", -9)])
async def test_a_process_that_dies_fails_its_task_only(bench: Bench, content: str, code: int) -> None:
    """Such as when the system is short of memory, or it stops itself; the next task gets a new process."""
    with pytest.raises(ProcessDied, match=f"the process of handler sample_handlers:end ended with exit code {code} "):
        await bench.run(END, content)
    assert "next" == (await compute(bench, "next"))["content"]


async def test_an_idle_process_that_is_killed_costs_no_task(bench: Bench) -> None:
    """The pool breaks by that, and is started again: nothing that a task has done."""
    pid = (await compute(bench))["pid"]
    os.kill(pid, signal.SIGKILL)
    assert pid != (await compute(bench))["pid"]
    assert not is_alive(pid)


async def test_a_process_does_not_listen_to_sigterm(bench: Bench) -> None:
    """A service manager sends it to all processes of a worker: the worker's drain decides, not the signal."""
    pid = (await compute(bench))["pid"]
    os.kill(pid, signal.SIGTERM)
    assert pid == (await compute(bench))["pid"]


async def test_a_process_over_its_limit_is_killed(bench: Bench) -> None:
    """Whatever signals it ignores: its pid is gone, and the next task gets a new process."""
    context = bench.context(limit_s=1.0)
    pid = (await compute(bench))["pid"]
    with pytest.raises(TimeLimitExceeded) as caught:
        await bench.begin(NEVER_END, context)
    assert (
        "handler sample_handlers:never_end took more than 1 s (its time_limit_s, or EBS_TASK_TIME_LIMIT_S): its "
        "process was killed" == str(caught.value)
    )
    assert (True, False) == (context.cancelled, is_alive(pid))
    assert pid != (await compute(bench))["pid"]


async def test_cancelling_kills_the_process(bench: Bench) -> None:
    """Cancelling does not wait for that, but it comes."""
    context = bench.context()
    run = bench.begin(NEVER_END, context)
    pid = await pid_of(context)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert context.cancelled
    await eventually(lambda: not is_alive(pid))
    assert pid != (await compute(bench))["pid"]


async def test_waiting_for_a_process_takes_nothing_of_the_limit(bench: Bench, tmp_path: Path) -> None:
    """There is one process, and another run has it for longer than that; who is cancelled meanwhile never runs."""
    trace = tmp_path / "trace"
    await compute(bench)  # the process is started
    context = bench.context(limit_s=2.5)
    first = bench.begin(NEVER_END, context)
    cancelled = bench.begin(by_name("leave_a_trace"), bench.context(some_task(str(trace))))
    waiting = [bench.begin(by_name("compute"), bench.context(limit_s=2.0)) for _ in range(3)]
    await pid_of(context)
    cancelled.cancel()
    with pytest.raises(TimeLimitExceeded):
        await first
    pids = {msgspec.json.decode(result)["pid"] for result in await asyncio.gather(*waiting)}
    assert (1, False) == (len(pids), trace.exists())


async def test_log_lines_of_a_process_come_out(capfd: pytest.CaptureFixture[str]) -> None:
    """A process has its own logging, on the same level; without any, lines below a warning were lost."""
    bench = Bench(by_name("log_lines"))
    try:
        await bench.run(by_name("log_lines"))
        said = [""]

        def is_said() -> bool:
            said[0] += capfd.readouterr().err
            return "task o1-0, attempt 1: 100% of it" in said[0]

        await eventually(is_said)
    finally:
        await bench.executor.close()


async def test_closing_kills_what_runs() -> None:
    """Whatever its limit would allow; a run that nobody cancelled before fails, and starts no new processes."""
    bench = Bench(NEVER_END)
    context = bench.context()
    run = bench.begin(NEVER_END, context)
    pid = await pid_of(context)
    async with asyncio.timeout(LONG_S / 2):
        await bench.executor.close()
    assert not is_alive(pid)
    with pytest.raises(NoProcess, match="the processes are closed already"):
        await run


WORKER = """
import asyncio
from loaded_handlers import by_name
from running_handlers import Bench, eventually

async def main():
    handler = by_name("never_end")
    bench = Bench(handler)
    context = bench.context()
    run = bench.begin(handler, context)
    await eventually(lambda: context.last_progress)
    print(context.last_progress.message, flush=True)
    await run

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_no_process_outlives_its_worker() -> None:
    """Even if the worker is killed with -9, nobody goes on computing for nobody."""
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{WORKER}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as worker:  # noqa: ASYNC220  # it takes a millisecond
        assert worker.stdout is not None
        pid = int(await asyncio.to_thread(worker.stdout.readline))
        assert is_alive(pid)
        worker.kill()
    await eventually(lambda: not is_alive(pid))


async def run_apart(bench: Bench, content: str, *, name: str = "end_in_the_loop", limit_s: float = LONG_S) -> object:
    """Run a handler apart."""
    task = some_task(content)
    return await bench.executor.run_apart(by_name(name), task, Bench.context(task, limit_s=limit_s))


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("retry", Retry, "busy"),
        ("panic", HandlerError, "Panic: of its own"),
        ("exit", HandlerError, "SystemExit: enough"),
        ("die", HandlerCrashed, "exit code 3"),
        ("kill the group", HandlerCrashed, "exit code -9"),
    ],
)
async def test_an_error_comes_out_of_a_coroutine_that_runs_apart(
    bench: Bench, content: str, error: type[Exception], words: str
) -> None:
    """As it does in the worker's own loop; what kills its process group kills itself only."""
    with pytest.raises(error, match=words):
        await run_apart(bench, content)


async def test_time_limit_of_what_runs_apart() -> None:
    """A coroutine that awaits is over its limit, as anywhere; one that blocks its loop is what ends workers."""
    bench = Bench(by_name("end_in_the_loop"), cleanup_limit_s=0.5)
    try:
        with pytest.raises(TimeLimitExceeded, match=r"took more than 0\.1 s"):
            await run_apart(bench, "wait", limit_s=0.1)
        with pytest.raises(HandlerCrashed, match="blocked its event loop"):
            await run_apart(bench, "block", limit_s=0.1)
        with pytest.raises(TimeLimitExceeded, match=r"took more than 0\.5 s"):
            await run_apart(bench, "block", name="end_in_a_thread", limit_s=0.5)
    finally:
        await bench.executor.close()


async def test_handler_is_not_blamed_where_no_process_starts() -> None:
    """Nothing was run, so nothing is known of it: its task is tried again, as after any failure."""
    bench = Bench(by_name("end_in_the_loop"))
    await bench.executor.close()
    with pytest.raises(NoProcess):
        await run_apart(bench, "wait")
