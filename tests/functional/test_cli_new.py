"""`ebs new`: what it writes passes its own tests and the checks of others, and names that cannot work are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pages import ROOT
from typer.testing import CliRunner

from ebs.cli import cli
from ebs.cli.new import files_of, why_no_name

PROGRAMS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a new project."""
    parent = tmp_path_factory.mktemp("parent")
    ran = ebs("new", "shop", cwd=parent)
    assert 0 == ran.returncode, ran.stderr
    assert "ebs up --project shop.work --reload" in ran.stdout
    return parent / "shop"


def ebs(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    return run(PROGRAMS / "ebs", *arguments, cwd=cwd)


def run(*argv: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder."""
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def test_its_own_tests_pass(shop: Path) -> None:
    """As they are; and `ebs run` takes the order that comes with it."""
    tested = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=shop)
    assert 0 == tested.returncode, tested.stdout + tested.stderr
    assert "3 passed" in tested.stdout
    ran = ebs("run", "shop.work", "order", "@order.json", cwd=shop)
    assert 'result: {"cents": 105}' in ran.stdout, ran.stderr


@pytest.mark.parametrize(
    "argv",
    [
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "shop", "tests"],
        [PROGRAMS / "ruff", "check", "--isolated", "--select", "E,F,I,UP", "."],
        [PROGRAMS / "ruff", "format", "--isolated", "--check", "."],
        [PROGRAMS / "hadolint", "Dockerfile"],
    ],
    ids=["mypy", "ruff-check", "ruff-format", "hadolint"],
)
def test_checks_of_others_find_nothing(shop: Path, argv: list[str | Path]) -> None:
    """A user's own checks do not begin with complaints about our code."""
    ran = run(*argv, cwd=shop)
    assert 0 == ran.returncode, ran.stdout + ran.stderr


def test_compose_override_has_the_services_of_the_stack(shop: Path) -> None:
    """Each process that loads the project runs the user's image, with the setting that names the project."""
    stack = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    ours = {name for name, service in stack.items() if "EBS_BROKER" in service.get("environment", {})}
    override = yaml.safe_load((shop / "compose.override.yaml").read_text())["services"]
    assert ours == set(override)
    for service in override.values():
        assert {"EBS_PROJECT": "shop.work"} == service["environment"]
        assert "shop:0.1.0" in service["image"]


def test_nothing_is_overwritten(shop: Path) -> None:
    """A second call changes nothing, and says so; neither does one where a file of that name is."""
    work = shop / "shop" / "work.py"
    work.write_text(f"{work.read_text()}# mine\n")
    again = ebs("new", "shop", cwd=shop.parent)
    assert 1 == again.returncode
    assert "is not empty, and nothing in it is overwritten" in again.stderr
    assert work.read_text().endswith("# mine\n")
    (shop.parent / "taken").write_text("a file")
    taken = ebs("new", "taken", cwd=shop.parent)
    assert 1 == taken.returncode
    assert "taken cannot be made" in taken.stderr
    assert "a file" == (shop.parent / "taken").read_text()


def test_a_path_is_taken_and_no_mark_is_left(tmp_path: Path) -> None:
    """The last part of the path is the name."""
    answer = CliRunner().invoke(cli, ["new", str(tmp_path / "deep" / "web_shop2")])
    assert 0 == answer.exit_code, answer.output
    written = {path for path in (tmp_path / "deep" / "web_shop2").rglob("*") if path.is_file()}
    assert tmp_path / "deep" / "web_shop2" / "web_shop2" / "work.py" in written
    assert len(files_of("web_shop2")) == len(written)
    assert [] == [path for path in written if "{{" in path.read_text() or "shop.work" in path.read_text()]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("web-shop", "such as web_shop"),
        ("Shop", "such as shop"),
        ("7up", "cannot be the name of a package"),
        ("class", "cannot be the name of a package"),
        ("a\x1b[31m", "cannot be the name of a package"),
        ("_shop", "such as shop"),
        ("shöp", "cannot be the name of a package"),
        ("json", "is an installed module"),
        ("httpx", "is an installed module"),
        ("app", "a package of ebs itself"),
        ("agents", "a package of ebs itself"),
        ("ebs", "a package of ebs itself"),
        ("tests", "the folder of the project's tests"),
    ],
)
def test_names_that_cannot_work_are_refused(name: str, words: str) -> None:
    """With the reason, and a name that works where there is one."""
    reason = why_no_name(name, sys.path)
    assert reason is not None
    assert words in reason
    assert reason.isprintable()
    assert why_no_name("shop", sys.path) is None
