"""`ebs run`: one object through a project in this process, told in words or as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
from ebs import Context, Project, Reject, Task

project = Project()


@project.split("order")
def lines(order: Task[dict[str, list[int]]], context: Context) -> list[int]:
    return order.content["lines"]


@project.task("order", attempts=2, backoff=3600)
def price(line: Task[int], context: Context) -> int:
    print("a line of print")
    context.log.info("a line of the log")
    if line.content == 13:
        raise ValueError("unlucky\\x1b[31m")
    return 100 * line.content


@project.join("order")
def total(cents: list[int], context: Context) -> dict[str, int]:
    return {"cents": sum(cents)}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a project, and a content in a file."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "shop").mkdir()
    (folder / "shop" / "work.py").write_text(WORK)
    (folder / "order.json").write_text('{"lines": [1, 2]}')
    return folder


def ebs_run(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    argv = [Path(sys.executable).with_name("ebs"), "run", *arguments]
    return subprocess.run(argv, cwd=folder, input=stdin, capture_output=True, text=True, check=False, timeout=120)


def test_object_that_finishes(folder: Path) -> None:
    """From a file; what functions print and log is shown."""
    ran = ebs_run(folder, "shop.work", "order", "@order.json")
    assert 0 == ran.returncode, ran.stderr
    assert ran.stdout.startswith("a line of print\n")
    assert "  task 1: 200\n" in ran.stdout
    assert ran.stdout.endswith('result: {"cents": 300}\n')
    assert "attempt 1: a line of the log" in ran.stderr


def test_object_that_fails(folder: Path) -> None:
    """Exit code 1, attempts, and the stack from the user's line on; nothing steers the terminal."""
    ran = ebs_run(folder, "shop.work", "order", '{"lines": [13]}')
    assert 1 == ran.returncode
    assert "task 0: DEAD after 2 attempts" in ran.stdout
    assert "attempt 2, at 3,600." in ran.stdout
    assert 'work.py", line 17, in price' in ran.stdout
    assert "executor.py" not in ran.stdout
    assert "\x1b" not in ran.stdout + ran.stderr


def test_json_is_all_of_stdout(folder: Path) -> None:
    """What functions print goes to stderr then."""
    ran = ebs_run(folder, "shop.work", "order", "-", "--json", stdin='{"lines": [13]}')
    told = json.loads(ran.stdout)
    assert ("FAILED", 1, None) == (told["state"], ran.returncode, told["join"])
    assert "ValueError" == told["tasks"][0]["attempts"][1]["error"]["type"]
    assert "a line of print" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["shop.work", "ordr", "{}"], 1, 'did you mean "order"?'),
        (["shop.wrok", "order"], 1, 'MODULE shop.wrok: there is no module shop.wrok (did you mean "shop.work"?)'),
        (["away.work", "order"], 1, "change to the folder of the project (this is /"),
        (["shop.work", "order", "apple"], 2, "a text needs quotes of its own"),
        (["shop.work", "order", "@nothing.json"], 2, "cannot be read"),
        (["shop.work"], 2, "Missing argument 'KIND'"),
    ],
)
def test_bad_input_is_named(folder: Path, arguments: list[str], code: int, words: str) -> None:
    """With the fix."""
    ran = ebs_run(folder, *arguments)
    assert code == ran.returncode
    said = " ".join(ran.stderr.replace("│", " ").split())
    assert words in said
    assert "Traceback" not in said
