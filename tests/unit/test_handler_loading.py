"""From settings to handlers: what is found, how it runs, and what is refused with which words."""

from __future__ import annotations

import inspect
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import sample_handlers

from agents.execution.loading import HandlerRefused, load_handlers, mode_of
from app.errors import SettingsError
from app.settings.settings import ProcessTime, Settings
from ebs import Reject

if TYPE_CHECKING:
    from pathlib import Path

AT_ONCE = ProcessTime(0.0, 0.0)


def refusal(**settings: object) -> str:
    """Return the words of a refusal."""
    with pytest.raises(SettingsError) as caught:
        load_handlers(Settings(**settings))
    return str(caught.value)


def test_a_kind_has_its_handler_and_all_others_have_the_general_one() -> None:
    """EBS_HANDLERS wins for its kinds, EBS_HANDLER is for the rest."""
    handlers = load_handlers(
        Settings(handler="sample_handlers:plain", handlers={"image": "sample_handlers:compute"}),
    )
    assert ("sample_handlers:compute", sample_handlers.compute) == (
        handlers.for_kind("image").name,
        inspect.unwrap(handlers.for_kind("image").function),
    )
    assert ("sample_handlers:plain", sample_handlers.plain) == (
        handlers.for_kind("default").name,
        inspect.unwrap(handlers.for_kind("default").function),
    )
    assert ["sample_handlers:plain", "sample_handlers:compute"] == [handler.name for handler in handlers]


@pytest.mark.parametrize(("process_time", "mode"), [(AT_ONCE, "inline"), (ProcessTime(3.0, 5.0), "coroutine")])
def test_without_a_handler_tasks_take_time_only(process_time: ProcessTime, mode: str) -> None:
    """The default handler takes a random time; if it takes none, it runs inline."""
    loaded = load_handlers(Settings(process_time=process_time)).for_kind("any")
    assert ("the default handler", mode) == (loaded.name, loaded.mode)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("plain", "thread"),
        ("coroutine", "coroutine"),
        ("at_once", "inline"),
        ("compute", "process"),
        ("with_default", "thread"),
        ("instance", "coroutine"),
        ("instance.method", "thread"),
        ("partial", "thread"),
    ],
)
def test_how_a_handler_runs_is_seen_in_how_it_is_written(name: str, mode: str) -> None:
    """Marks and `async` decide; objects and partials are looked into."""
    loaded = load_handlers(Settings(handler=f"sample_handlers:{name}")).for_kind("default")
    assert mode == loaded.mode


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("sample_handlers", "must be package.module:function, such as shop.images:resize"),
        ("sample_handlers.plain", "must be package.module:function, such as shop.images:resize"),
        ("sample_handlers:plain()", "must be package.module:function, such as shop.images:resize"),
        (":plain", "must be package.module:function, such as shop.images:resize"),
        ("shop.images:resize", "shop.images cannot be imported: ModuleNotFoundError: No module named 'shop'"),
        (
            "sample_handlers:plane",
            "there is no plane in sample_handlers: module 'sample_handlers' has no attribute 'plane'",
        ),
        ("sample_handlers:instance.run", "there is no instance.run in sample_handlers: 'Resizer' object has no"),
        ("sample_handlers:number", "cannot be called, it is of type int: name a function"),
        ("sample_handlers:Resizer", "is a class: name a function, or an instance with a `__call__` method"),
        ("sample_handlers:generator", "is a generator (it has a `yield`): nothing would run it, use `return`"),
        ("sample_handlers:async_generator", "is a generator (it has a `yield`): nothing would run it, use `return`"),
        (
            "sample_handlers:only_task",
            "is called with (task, context), but takes (_task: 'Task') -> 'None': too many positional arguments",
        ),
        ("sample_handlers:keyword_needed", "missing a required"),
        ("sample_handlers:inline_coroutine", "is `async def` and marked @inline: drop the mark, or make it a plain"),
        ("sample_handlers:cpu_bound_coroutine", "is `async def` and marked @cpu_bound: drop the mark, or make it"),
        ("sample_handlers:two_marks", "is marked @inline and @cpu_bound: it can run in one place only"),
        ("builtins:max", "does not say which arguments it takes, wrap it in a `def`"),
    ],
)
def test_what_cannot_be_a_handler_is_refused_with_the_reason(spec: str, words: str) -> None:
    """The words name the variable, the spec, and what to do."""
    said = refusal(handler=spec)
    assert said.startswith(f"EBS_HANDLER={spec}: ")
    assert words in said


def test_a_handler_of_a_kind_is_refused_by_that_name() -> None:
    """With several handlers, the words say which one."""
    said = refusal(handlers={"image": "sample_handlers:plain", "text": "sample_handlers:plane"})
    assert said.startswith("EBS_HANDLERS[text]=sample_handlers:plane: there is no plane in sample_handlers")


def test_a_kind_that_no_object_can_have_is_refused() -> None:
    """A handler that would never run is a mistake that somebody wants to hear of."""
    said = refusal(handlers={"my images": "sample_handlers:plain"})
    assert said.startswith("EBS_HANDLERS[my images]=sample_handlers:plain: no object has such a kind: ")


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("broken_value", "x = 1\nint('seven')\n", "ValueError: invalid literal for int() with base 10: 'seven' ("),
        ("broken_exit", "raise SystemExit('usage: ...')\n", "SystemExit: usage: ... ("),
        ("broken_import", "import nowhere\n", "ModuleNotFoundError: No module named 'nowhere' ("),
        ("broken_syntax", "def f(:\n", "SyntaxError: invalid syntax (broken_syntax.py, line 1)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_refused_with_its_own_error(
    name: str, code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The import's error, and the line that raised it: without that, nobody finds it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(code)
    said = refusal(handler=f"{name}:run")
    assert said.startswith(f"EBS_HANDLER={name}:run: {name} cannot be imported: {words}")
    line = code.count("\n")
    assert said.endswith(f"{name}.py, line {line})")


def test_the_current_directory_can_be_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside where the worker is started is found, however Python was started."""
    (tmp_path / "beside.py").write_text("def run(task, context):\n    return 'beside'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    loaded = load_handlers(Settings(handler="beside:run")).for_kind("default")
    assert "beside" == inspect.unwrap(loaded.function)(None, None)


@pytest.mark.parametrize(
    ("spec", "code"),
    [("app.work:run", ""), ("uses_agents:run", "from agents import Runner"), ("b:run", "import api.orders")],
)
def test_package_that_ours_hides_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, code: str
) -> None:
    """A user's `app`, and another library's `agents`, cannot be imported in a worker: the message says why."""
    for name in ("app", "agents", "api"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "work.py").write_text("def run(task, context): ...")
    (tmp_path / f"{spec.partition(':')[0]}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    said = refusal(handler=spec)
    name = (spec if not code else code.split()[1]).partition(".")[0]
    assert f"ebs has a package {name} of its own, which hides {tmp_path / name}" in said


def test_a_function_that_is_no_handler_says_so_without_a_spec() -> None:
    """The same rules hold for a function in hand."""
    with pytest.raises(HandlerRefused, match="is called with"):
        mode_of(lambda: None)


def test_kind_without_a_handler_is_rejected_where_only_some_have_one() -> None:
    """A task of a misspelt kind dies with that reason: the default handler would make it look worked."""
    handlers = load_handlers(Settings(handlers={"image": "sample_handlers:compute"}, process_time=AT_ONCE))
    loaded = handlers.for_kind("imgae")
    assert "inline" == loaded.mode
    task = SimpleNamespace(kind="imgae")
    with pytest.raises(Reject, match='no handler works on kind "imgae" \\(did you mean "image"\\?\\)'):
        loaded.function(task, None)
