"""From EBS_PROJECT to what runs: how it is found, which function has a kind, and what is refused with which words."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import sample_handlers
from running_handlers import some_task

from agents.execution.loading import Address, LoadedHandler, find, load_handlers
from agents.execution.user_functions import as_handler
from app.errors import SettingsError
from app.rules.retry_policy import RetryPolicy
from app.settings.project import handled_kinds, load_project, makes_objects_up
from app.settings.settings import ProcessTime, Settings
from ebs import Context, Reject, Task
from ebs.function import Policy, function_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

AT_ONCE = ProcessTime(0.0, 0.0)


def loaded(kind: str, **settings: Any) -> LoadedHandler:
    """Return the handler of a kind."""
    return load_handlers(Settings(**settings)).for_kind(kind)


def refusal(spec: str) -> str:
    """Return the words of a refusal."""
    with pytest.raises(SettingsError) as caught:
        load_handlers(Settings(project=spec))
    return str(caught.value)


def in_folder(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a folder with a module, as a user does; the path is put back in the end."""
    (folder / f"{name}.py").write_text(code)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])


@pytest.mark.parametrize(("process_time", "mode"), [(AT_ONCE, "inline"), (ProcessTime(3.0, 5.0), "coroutine")])
def test_without_a_project_tasks_take_time_only(process_time: ProcessTime, mode: str) -> None:
    """The default handler takes a random time; if it takes none, it runs inline."""
    found = loaded("any", process_time=process_time)
    assert ("the default handler", mode, None) == (found.name, found.mode, found.address)
    assert handled_kinds(Settings()) is None


def test_kind_has_its_function_which_any_process_finds() -> None:
    """By the project's spec and the kind: a function may be a partial or an object, which has no name to import."""
    spec = "sample_handlers:two_kinds"
    found = loaded("image", project=spec)
    assert ("sample_handlers:compute", "process", Address(spec, "task", "image")) == (
        found.name,
        found.mode,
        found.address,
    )
    assert {"image", "mail"} == handled_kinds(Settings(project=spec))
    assert "some content" == find(Address(spec, "task", "mail"))(some_task(), Context(some_task(), 1.0))
    with pytest.raises(Reject, match="has no task for kind gone any more"):
        find(Address(spec, "task", "gone"))


def test_kind_without_a_function_is_rejected() -> None:
    """A task of a misspelt kind dies with that reason: the default handler would make it look worked."""
    found = loaded("imgae", project="sample_handlers:two_kinds", process_time=AT_ONCE)
    assert "inline" == found.mode
    with pytest.raises(Reject, match=r'no function of the project works on kind "default".*"image", "mail"'):
        found.function(some_task(), None)  # type: ignore[arg-type]  # it looks at nothing


def test_function_for_all_other_kinds_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then no kind is unknown."""
    code = "import ebs\nproject = ebs.Project()\n@project.task('*')\ndef run(task, context):\n    return task.kind\n"
    in_folder(tmp_path, "takes_all", code, monkeypatch)
    found = loaded("whatever", project="takes_all")
    assert "default" == found.function(some_task(), Context(some_task(), 1.0))
    assert handled_kinds(Settings(project="takes_all")) is None


async def test_async_split_without_an_end_is_refused() -> None:
    """It never lets the event loop go on, so nothing else could end it but the end of its worker."""

    async def endless(_task: Task, _context: Context) -> AsyncIterator[int]:
        while True:
            yield 1

    function = function_of("split", "a", endless, Policy())
    with pytest.raises(Reject, match="more than 10,000 items"):
        await as_handler(function)(some_task(), Context(some_task(), 1.0))


@pytest.mark.parametrize("role", ["split", "join"])
def test_split_and_join_whose_function_is_gone_are_rejected(
    role: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project has changed since the submit: a function for other kinds, or none at all, must not run instead."""
    code = "from ebs import Project\nproject = Project()\n@project.task('*')\ndef any(task, context): ...\n"
    in_folder(tmp_path, "joinless_project", code, monkeypatch)
    task = msgspec.structs.replace(some_task(), kind="order", role=role)
    for settings in (Settings(project="joinless_project"), Settings(process_time=AT_ONCE)):
        found = load_handlers(settings).for_task(task)
        with pytest.raises(Reject, match=f'no {role} for kind order.*put @project.{role}."order". back, then redrive'):
            found.function(task, Context(task, 1.0))


def test_policies_win_over_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a function does not say, the settings do."""
    code = """
import ebs
project = ebs.Project()
@project.task("a", attempts=2, backoff=[1, 5], max_age_s=60, time_limit_s=3, max_result_bytes=10)
def a(task, context): ...
@project.task("b")
def b(task, context): ...
"""
    in_folder(tmp_path, "policies", code, monkeypatch)
    settings = {"task_time_limit_s": 9.0, "max_result_bytes": 99, "max_attempts": 4, "max_task_age_h": 1.0}
    own, others = (loaded(kind, project="policies", **settings).limits for kind in "ab")
    assert (3, 10, RetryPolicy((1, 10, 60), 2, 60_000, [1, 5])) == own[:3]
    assert (9.0, 99, RetryPolicy((1, 10, 60), 4, 3_600_000)) == others[:3]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("sample_handlers.py", "there is no module sample_handlers.py"),
        ("./sample_handlers", "must be package.module or package.module:name, such as shop.work"),
        ("sample_handlers:", "must be package.module or package.module:name, such as shop.work"),
        ("sample_handlers:project()", "must be package.module or package.module:name, such as shop.work"),
        ("shop.images", "there is no module shop.images"),
        ("loaded_handlers", "there is no project in loaded_handlers: write `project = ebs.Project()` there"),
        ("sample_handlers:number", "it is of type int, not Project: number in sample_handlers: write `number = ebs.P"),
        ("sample_handlers:empty", 'the project has no function: write @project.task("kind") above one'),
    ],
)
def test_what_is_no_project_is_refused_with_the_reason(spec: str, words: str) -> None:
    """The words name the variable, the spec, and what to do."""
    said = refusal(spec)
    assert said.startswith(f"EBS_PROJECT={spec}: ")
    assert words in said


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("broken_value", "x = 1\nint('seven')\n", "ValueError: invalid literal for int() with base 10: 'seven' ("),
        ("broken_exit", "raise SystemExit('usage: ...')\n", "SystemExit: usage: ... ("),
        (
            "broken_steering",
            "raise ValueError('\\x1b[31mred\\nERROR forged')\n",
            r"ValueError: \x1b[31mred\nERROR forged (",
        ),
        (
            "broken_error",
            "class Mute(Exception):\n    def __str__(self): raise SystemExit(3)\nraise Mute\n",
            "Mute: its text cannot be read (SystemExit) (",
        ),
        (
            "broken_name",
            "import ebs\np = ebs.Project()\ndef f(task): ...\nf.__qualname__ = '\\x1b[31mf\\n'\np.task('a')(f)\n",
            r"the function of kind a, broken_name:\x1b[31mf\n, is called with",
        ),
        ("broken_import", "import nowhere\n", "ModuleNotFoundError: No module named 'nowhere' ("),
        ("broken_syntax", "def f(:\n", "SyntaxError: invalid syntax (broken_syntax.py, line 1)"),
        (
            "broken_policy",
            "import ebs\np = ebs.Project()\n@p.task('a', attempts=99)\ndef f(task, context): ...\n",
            "ProjectRefused: the function of kind a, broken_policy:f, has attempts=99: it must be a whole number",
        ),
        (
            "broken_marks",
            "import ebs\nproject = ebs.Project()\n@ebs.inline\n@ebs.cpu_bound\n@project.task('a')\ndef f(t, c): ...\n",
            "the function of kind a, broken_marks:f, is marked @inline and @cpu_bound: it can run in one place only",
        ),
    ],
)
def test_module_that_cannot_be_used_is_refused_with_its_own_error(
    name: str, code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The import's error, and the line that raised it: without that, nobody finds it."""
    in_folder(tmp_path, name, code, monkeypatch)
    said = refusal(name)
    assert words in said
    assert f"{name}.py, line " in said or "broken_marks:f" in said


def test_current_folder_can_be_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside where the worker is started is found, however Python was started."""
    code = "from ebs import Project\nproject = Project()\nproject.task('a')(lambda task, context: 'beside')\n"
    in_folder(tmp_path, "beside", code, monkeypatch)
    assert "beside" == loaded("a", project="beside").function(some_task(), Context(some_task(), 1.0))


@pytest.mark.parametrize(
    ("spec", "code"),
    [("app.work", ""), ("uses_agents", "from agents import Runner"), ("b", "import api.orders")],
)
def test_package_that_ours_hides_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, code: str
) -> None:
    """A user's `app`, and another library's `agents`, cannot be imported in a worker: the message says why."""
    for name in ("app", "agents", "api"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "work.py").write_text("project = 1")
    in_folder(tmp_path, spec, code, monkeypatch)
    said = refusal(spec)
    name = (spec if not code else code.split()[1]).partition(".")[0]
    assert f"ebs has a package {name} of its own, which hides {tmp_path / name}" in said


def test_objects_are_generated_where_there_is_no_project() -> None:
    """Made-up work is nothing for a user's functions, unless it is asked for."""
    assert makes_objects_up(Settings())
    assert not makes_objects_up(Settings(project="sample_handlers"))
    assert makes_objects_up(Settings(project="sample_handlers", generate=True))


def test_project_is_imported_once() -> None:
    """Whoever asks in a process gets the same functions."""
    assert load_project("sample_handlers") is sample_handlers.project
