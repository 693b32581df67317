"""`ebs.testing`: an object runs in this process, by the code of the workers, and nothing of it takes a pause's time."""
# ruff: noqa: ARG001  # functions take a task and a context, whether they look at them or not

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
import threading
import time
import types
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pydantic
import pytest
from pages import DOCS, blocks

from ebs import BatchContext, Context, Item, ObjectFailed, Project, Reject, Retry, Task, cpu_bound, inline
from ebs.client.bodies import NewObject
from ebs.errors import ProjectRefused
from ebs.testing import ObjectRefused, arun, run
from ebs.testing.own_packages import own_packages
from ebs.testing.story import story_of
from ebs.testing.system import MemorySystem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

LIMIT_S = 0.1


class Line(msgspec.Struct):
    """A line of an order."""

    sku: str
    count: int = 1


shop = Project()


@shop.split("order")
def lines(order: Task[dict[str, list[Line]]], context: Context) -> Iterator[Item]:
    """Split an order into its lines."""
    for line in order.content["lines"]:
        yield Item(line, name=line.sku)


@shop.task("order", attempts=3, backoff=[5, 3_600])
async def price(line: Task[Line], context: Context) -> int:
    """Price a line; the one called busy needs three attempts, the one called gone has no price."""
    context.progress(0.5, "half")
    if line.content.sku == "busy" and context.attempt < 3:
        raise ValueError("not now")
    if line.content.sku == "gone":
        raise Reject("nobody sells it")
    return 100 * line.content.count


@shop.join("order")
@cpu_bound
def total(cents: list[int], context: Context) -> dict[str, int]:
    """Add up."""
    return {"cents": sum(cents)}


def order(*skus: str) -> dict[str, Any]:
    """Return the content of an order."""
    return {"lines": [{"sku": sku, "count": 2} for sku in skus]}


def test_split_tasks_and_join_run() -> None:
    """What would have been committed is there: results in order, the object's result, and the end event."""
    done = run(shop, "order", order("a", "b"), name="mine")
    assert ("FINISHED", {"cents": 400}, [200, 200]) == (done.state, done.result, done.results)
    assert ["split", "task", "task", "join"] == [task.role for task in done.all_tasks]
    assert ["a", "b"] == [task.name for task in done.tasks]
    assert {"sku": "a", "count": 2} == done.tasks[0].content
    assert (0.5, "half") == done.tasks[0].attempts[0].progress
    assert f"{done.object_id}-join" == done.join.task_id
    assert ("OBJECT_FINISHED", 2, {"cents": 400}) == tuple(done.end[key] for key in ("type", "tasks_total", "result"))
    assert done.raise_for_failure() is done


def test_retries_take_no_time() -> None:
    """The function's own backoff passes as virtual time, in the order in which attempts are due."""
    began_s = time.monotonic()
    done = run(shop, "order", order("busy", "a"))
    assert time.monotonic() - began_s < 60
    attempts = done.tasks[0].attempts
    assert "FINISHED" == done.state
    assert [1, 2, 3] == [attempt.number for attempt in attempts]
    assert [0, 5, 3_605] == pytest.approx([attempt.started_s for attempt in attempts], abs=3)
    assert ["ValueError: not now"] * 2 == list(map(str, done.errors))
    assert "in price" in done.errors[0].stack
    assert isinstance(done.errors[0].exception, ValueError)
    assert done.join.attempts[0].started_s >= 3_605


def test_a_dead_task_fails_its_object() -> None:
    """And the join does not run; the error can be raised with its cause."""
    done = run(shop, "order", order("a", "gone"))
    assert ("FAILED", None, [200, None], None) == (done.state, done.result, done.results, done.join)
    assert ("OBJECT_FAILED", 1) == (done.end["type"], done.end["tasks_dead"])
    assert ["FINISHED", "DEAD"] == [task.state for task in done.tasks]
    with pytest.raises(ObjectFailed, match=r"1 task is dead.*nobody sells it") as caught:
        done.raise_for_failure()
    assert caught.value.__cause__ is done.tasks[1].error.exception


def test_a_content_that_does_not_fit_fails_as_in_a_worker() -> None:
    """The split is rejected with the field, and has no second attempt."""
    done = run(shop, "order", {"lines": [{"sku": 7}]})
    assert ("FAILED", [], 1) == (done.state, done.tasks, len(done.split.attempts))
    assert "Expected `str`, got `int` - at `$[...][0].sku`" in str(done.split.error)
    assert isinstance(done.split.error.exception, Reject)


odd = Project()
threads: list[int] = []


@odd.split("empty")
async def nothing(task: Task, context: Context) -> AsyncIterator[int]:
    """Split into nothing."""
    return
    yield


@odd.task("empty")
def never(task: Task, context: Context) -> None:
    """Get no task."""


@odd.join("empty")
@inline
def none(results: list[Any], context: Context) -> list[Any]:
    """Return what there is: nothing."""
    return results


@odd.task("process")
@cpu_bound
def apart(task: Task, context: Context) -> int:
    """Note where it runs."""
    threads.append(threading.get_ident())
    return context.attempt


@odd.task("slow", time_limit_s=0.05, attempts=1)
async def slow(task: Task, context: Context) -> None:
    """Take longer than it may."""
    await asyncio.sleep(60)


@odd.task("cancels", attempts=1)
async def cancels(task: Task, context: Context) -> None:
    """Cancel its own task."""
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


@odd.task("exits", attempts=2)
def exits(task: Task, context: Context) -> None:
    """End its process, as it thinks."""
    sys.exit("bye")


@odd.task("unwritable")
def unwritable(task: Task, context: Context) -> object:
    """Return what is no JSON."""
    return object()


@odd.task("asks")
def asks(task: Task, context: Context) -> None:
    """Ask for another attempt in an hour."""
    raise Retry(3_600, "later")


chains = Project()


@chains.task("link", attempts=2, backoff=1)
def link(task: Task[int], context: Context) -> None:
    """Submit the next one, and tell others; the first attempt fails after that."""
    context.submit("link", task.content + 1, name="next", tasks=[1, 2], callback_url="http://localhost:9000/hooks")
    context.send("sales", "ann", {"cents": task.content}, headers={"from": "test"})
    if context.attempt == 1:
        raise ValueError("after all")


@chains.task("typo")
def typo(task: Task, context: Context) -> None:
    """Submit what nobody works on."""
    context.submit("lnik")


def test_what_functions_produce_is_kept_if_they_finish() -> None:
    """Once, although the function ran twice; a kind that is misspelt is refused as in a worker."""
    done = run(chains, "link", 7, tasks=1)
    (new,) = done.submitted
    assert ("link", 8, "next", [1, 2]) == (new.kind, new.content, new.name, new.tasks)
    (record,) = done.sent
    assert ("sales", b"ann", {"cents": 7}, {"from": b"test"}) == (
        record.topic,
        record.key,
        record.json(),
        record.headers,
    )
    assert new.object_id == run(chains, "link", 7, tasks=1, object_id=done.object_id).submitted[0].object_id
    assert "http://localhost:9000/hooks" == new.callback_url
    assert "submitted: link 8, callback to http://localhost:9000/hooks" in story_of(done)
    assert 'sent to sales: {"cents":7}' in story_of(done)
    assert 'did you mean "link"' in str(run(chains, "typo", tasks=1).errors[0])


class Piece(pydantic.BaseModel):
    """A line of an order, as a pydantic model."""

    sku: str
    due: date = date(2026, 11, 29)


models = Project()


@models.split("order")
def pieces(order: Task[list[Piece]], context: Context) -> list[Piece | Item]:
    """Return models, one of them in an item."""
    first, second = order.content
    return [first, Item(second, name="second")]


@models.task("order")
def hand_on(piece: Task[Piece], context: Context) -> dict[str, Piece]:
    """Send, submit and return a model."""
    context.send("sales", piece.content.sku, piece.content)
    context.submit("order", [piece.content], tasks=[piece.content])
    return {"piece": piece.content}


@models.join("order")
def first_of(pieces: list[dict[str, Piece]], context: Context) -> Piece:
    """Return a model."""
    return pieces[0]["piece"]


def test_a_pydantic_model_is_written_wherever_it_is_read() -> None:
    """As an item, a result, the content of an object and a record: in the form that pydantic gives it."""
    done = run(models, "order", [Piece(sku="a"), Piece(sku="b")])
    a, b = ({"sku": sku, "due": "2026-11-29"} for sku in "ab")
    assert "FINISHED" == done.state, done.errors
    assert ([{"piece": a}, {"piece": b}], a) == (done.results, done.result)
    assert ([a], [a]) == (done.submitted[0].content, done.submitted[0].tasks)
    assert a == done.sent[0].json()


def test_nothing_can_be_split_into_nothing() -> None:
    """Then the join gets an empty list."""
    done = run(odd, "empty")
    assert ("FINISHED", [], []) == (done.state, done.result, done.results)


def test_a_cpu_bound_function_runs_here() -> None:
    """It sees what the test has put into this process."""
    threads.clear()
    assert [1, 1] == run(odd, "process", tasks=["a", "b"]).results
    assert len(threads) == 2


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("slow", "TimeLimitExceeded"),
        ("cancels", "raised CancelledError"),
        ("exits", "bye"),
        ("unwritable", "is not JSON"),
        ("asks", "later"),
    ],
)
def test_what_fails_in_a_worker_fails_here(kind: str, words: str) -> None:
    """With the words of the worker."""
    done = run(odd, kind, tasks=1)
    assert "FAILED" == done.state
    assert words in str(done.errors[-1])


def test_retry_asks_for_its_own_delay_and_attempts_end() -> None:
    """EBS_MAX_ATTEMPTS holds where the function says nothing."""
    attempts = run(odd, "asks", tasks=1).tasks[0].attempts
    assert [0, 3_600, 7_200, 10_800, 14_400] == pytest.approx([one.started_s for one in attempts], abs=3)


def test_settings_of_the_environment_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like in a worker; a project in the environment is another one."""
    monkeypatch.setenv("EBS_MAX_ATTEMPTS", "2")
    monkeypatch.setenv("EBS_PROJECT", "nowhere.at_all")
    assert 2 == len(run(odd, "asks", tasks=1).tasks[0].attempts)


async def test_arun_is_for_tests_with_an_event_loop() -> None:
    """`run` says so where a loop runs."""
    assert {"cents": 200} == (await arun(shop, "order", order("a"))).result
    with pytest.raises(RuntimeError, match="await arun"):
        run(shop, "order", order("a"))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"kind": "ordr"}, ObjectRefused, 'did you mean "order"'),
        ({"kind": "order", "tasks": 0}, ObjectRefused, "at `$.tasks`"),
        ({"kind": "order", "tasks": []}, ObjectRefused, "at `$.tasks`"),
        ({"kind": "order", "tasks": 1_001}, ObjectRefused, "EBS_MAX_TASKS_PER_OBJECT"),
        ({"kind": 7}, ObjectRefused, "at `$.kind`"),
        ({"kind": "order", "content": object()}, TypeError, "cannot be written as JSON"),
        ({"kind": "order", "object_id": "mine"}, ValueError, "32 hexadecimal digits"),
    ],
)
def test_what_the_api_refuses_is_refused(given: dict[str, Any], error: type[Exception], words: str) -> None:
    """Nothing runs, and the words name the fix."""
    with pytest.raises(error) as caught:
        run(shop, **given)
    assert words in str(caught.value)


async def test_fault_of_our_own_ends_the_run() -> None:
    """The event loop would only log it, and the user's test would hang."""

    def finish(_lane: object, _place: object) -> None:
        raise ArithmeticError("a fault of ours")

    system = MemorySystem(shop, ObjectRefused)
    system._lanes.finish = finish
    with pytest.raises(ArithmeticError, match="a fault of ours"):
        await asyncio.wait_for(system.run(NewObject("order", {"lines": [{"sku": "apple"}]})), LIMIT_S * 100)


def test_a_wrong_project_is_refused() -> None:
    """One without functions, and what is none."""
    with pytest.raises(ProjectRefused, match="no function"):
        run(Project(), "order")
    with pytest.raises(TypeError, match="the project comes first"):
        run("shop.work", "order")  # type: ignore[arg-type]


def test_a_hundred_tasks_take_less_than_a_tenth_of_a_second() -> None:
    """Of CPU time, which others on this machine do not change; the fastest of five."""
    content = order(*["a"] * 100)

    def measured_s() -> float:
        began_s = time.process_time()
        assert {"cents": 20_000} == run(shop, "order", content).result
        return time.process_time() - began_s

    assert min(measured_s() for _ in range(5)) < LIMIT_S


def test_story_tells_what_happened() -> None:
    """Attempts where there was more than one, the deaths, and the stack of the last error if it is asked for."""
    done = run(shop, "order", order("busy", "gone"))
    story = story_of(done, stacks=True)
    assert f"object {done.object_id} of kind order: FAILED" in story
    assert "  split: 2 tasks\n" in story
    assert '  task 0 "busy": 200\n' in story
    assert "    attempt 3, at 3,605.0 s: returned\n" in story
    assert "DEAD after 1 attempt\n" in story
    assert "failed: Reject: nobody sells it" in story
    assert "Traceback" in story
    long = story_of(run(shop, "order", order(*["a"] * 80, "gone")))
    assert 'task 80 "gone": DEAD' in long
    assert "and 31 more tasks, which finished" in long


def test_tests_of_the_page_pass() -> None:
    """Those that need no fixture, as they stand there."""
    ran = []
    for block in blocks(DOCS / "how-to" / "test-a-project.md", "python"):
        names: dict[str, Any] = {"__name__": "page"}
        exec(compile(block.text, "page", "exec", dont_inherit=True), names)
        for name, test in names.items():
            if name.startswith("test_") and "ebs_run" not in test.__annotations__:
                test()
                ran.append(name)
    assert 3 == len(ran)


def test_names_of_ours_stay_those_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A user's `app` keeps its name in a process of the user's, loaded or only findable."""
    theirs = types.ModuleType("app")
    theirs.__file__ = str(tmp_path / "app.py")
    (tmp_path / "agents.py").write_text("MINE = True")
    for name in [name for name in sys.modules if name.partition(".")[0] in {"app", "agents"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "app", theirs)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = list(sys.path)
    with own_packages():
        import agents.execution.loading  # noqa: PLC0415
        import app.errors  # noqa: PLC0415

        first = app.errors
    assert sys.modules["app"] is theirs
    assert "agents" not in sys.modules
    assert path == sys.path
    with own_packages():
        assert sys.modules["app.errors"] is first
    import agents  # noqa: PLC0415

    assert agents.MINE


OTHER_APP = """
import app
from ebs import ObjectFailed, Project, Reject
from ebs.testing import run

project = Project()

@project.split("order")
def split(order, context):
    raise Reject("no lines")

@project.task("order")
def price(task, context):
    return app.PRICE

done = run(project, "order", tasks=2)
print(done.results, done.raise_for_failure() is done)
try:
    run(project, "order").raise_for_failure()
except ObjectFailed as error:
    print(error.tasks[0].sequence, app.PRICE)
"""


def test_project_with_an_app_of_its_own_runs(tmp_path: Path) -> None:
    """In a process that imports ebs first: ours have the name `app` while ours run, else the user has it."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("PRICE = 105")
    (tmp_path / "work.py").write_text(OTHER_APP)
    ran = subprocess.run([sys.executable, "work.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ["[105, 105] True", "10000 105"] == ran.stdout.splitlines(), ran.stderr


def test_plugin_is_cheap_to_import() -> None:
    """Every pytest of an environment with ebs imports it: no codec, no settings, no Kafka before a fixture is used."""
    code = "import sys, pytest; before = set(sys.modules); import ebs.pytest_plugin; print(set(sys.modules) - before)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"ebs.pytest_plugin"} == ast.literal_eval(ran.stdout) - {"ebs"}


def test_delays_take_no_time() -> None:
    """Of the object, of an item, and of what a function submits: virtual time passes."""
    project = Project()

    @project.split("wave")
    def wave(task: Task, _context: Context) -> list[Item]:
        return [Item(name, delay_s=3_600 * number) for number, name in enumerate(task.content)]

    @project.task("wave")
    def greet(task: Task, context: Context) -> str:
        context.submit("wave", ["c"], delay_s=60)
        return task.content

    done = run(project, "wave", ["a", "b"], delay_s=86_400)
    assert ["a", "b"] == done.results
    assert 86_400 <= done.split.attempts[0].started_s < 86_410
    # The delay begins as the split ends, not as the first task starts, which is a moment later.
    assert 3_600 <= done.tasks[1].attempts[0].started_s - done.split.attempts[0].started_s < 3_610


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"delay_s": -1}, "not a number of seconds"),
        ({"delay_s": True}, "not a number of seconds"),
        ({"due_at": datetime(2027, 1, 1)}, "with a time zone"),  # noqa: DTZ001  # that is the point
        ({"due_at": "2027-01-01T09:00:00Z"}, "with a time zone"),
        ({"delay_s": 1, "due_at": datetime(2027, 1, 1, tzinfo=UTC)}, "give one of them"),
        ({"due_at": datetime(2999, 1, 1, tzinfo=UTC)}, "more than a year"),
    ],
)
def test_start_that_cannot_be_rejects(asked: dict[str, Any], said: str) -> None:
    """In `context.submit`, as in an item."""
    project = Project()

    @project.task("a")
    def submits(_task: Task, context: Context) -> None:
        context.submit("a", 1, **asked)

    @project.split("b")
    def splits(_task: Task, _context: Context) -> list[Item]:
        return [Item(1, **asked)]

    @project.task("b")
    def works(_task: Task, _context: Context) -> None:
        return None

    for failed in (run(project, "a", 1, tasks=1).tasks[0], run(project, "b", 1).split):
        assert said in str(failed.attempts[-1].error)


together = Project()
calls: list[list[Any]] = []


@together.task("doc", batch=3, attempts=3, backoff=[60])
def embed(tasks: list[Task[int]], context: BatchContext) -> list[Any]:
    """Embed documents; 13 is poison, an odd one fails at first."""
    calls.append([task.content for task in tasks])
    for task in tasks:
        if task.content == 13:
            raise ValueError("unlucky")
        context.of(task).send("vectors", str(task.content), task.content)
    return [KeyError("odd") if task.content % 2 and task.attempt == 1 else -task.content for task in tasks]


def test_a_batch_function_gets_several_tasks_in_one_call() -> None:
    """As many as it takes at most; those that are tried again at the same time are together again."""
    calls.clear()
    done = run(together, "doc", tasks=[1, 2, 3, 4])
    assert ("FINISHED", [-1, -2, -3, -4]) == (done.state, done.results)
    assert [[1, 2, 3], [4], [1, 3]] == calls
    assert [2, 1, 2, 1] == [len(task.attempts) for task in done.tasks]
    assert ["2", "4", "1", "3"] == [(record.key or b"").decode() for record in done.sent]


def test_poison_in_a_batch_is_found_and_alone_is_dead() -> None:
    """The same calls in each run: one after the other, in order."""
    calls.clear()
    done = run(together, "doc", tasks=[2, 13, 4])
    assert ("FAILED", [-2, None, -4]) == (done.state, done.results)
    assert [[2, 13, 4], [2], [13], [4], [13], [13]] == calls
    assert [1, 3, 1] == [len(task.attempts) for task in done.tasks]
    assert ["ValueError: unlucky"] * 3 == list(map(str, done.errors))
