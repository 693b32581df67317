"""What a process of ours can import, whatever the user's folder and environment have: in real processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ebs
from app.process.name_clashes import hidden_packages
from ebs import start

PROBE = """
import json, os, sys
path = list(sys.path)
sys.path.insert(0, "")  # as uvicorn does
import agents, api, app, helper
found = {module.__name__: module.__file__ for module in (agents, api, app, helper)}
print(json.dumps({"cwd": os.getcwd(), "path": path, "argv": sys.argv[1:], **found}))
"""


def run(*command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def shop(tmp_path):
    """Return a user's folder: packages of our names, and modules that only a relative PYTHONPATH finds."""
    for name in start.PACKAGES:
        (tmp_path / "shop" / name).mkdir(parents=True)
        (tmp_path / "shop" / name / "__init__.py").write_text("")
    (tmp_path / "shop" / "probe.py").write_text(PROBE)
    (tmp_path / "shop" / "lib").mkdir()
    (tmp_path / "shop" / "lib" / "helper.py").write_text("")
    return tmp_path / "shop"


@pytest.fixture
def installed(tmp_path):
    """Return a folder in which ebs lies as in an installation."""
    site = tmp_path / "site"
    shutil.copytree(Path(start.__file__).parent, site / "ebs")
    for name in start.PACKAGES:
        (site / "ebs" / "_system" / name).mkdir(parents=True)
        (site / "ebs" / "_system" / name / "__init__.py").write_text("whose = 'ours'")
    return site


@pytest.mark.parametrize(
    "command", [(sys.executable, "-P", "-m", "ebs", "up"), start.command("faust", "-A", "agents.processing", "worker")]
)
def test_deleted_folder_is_one_line(tmp_path, command):
    """Nothing that is relative to it would mean anything."""
    (tmp_path / "gone").mkdir()
    done = run("sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *command, cwd=tmp_path / "gone")
    assert (1, "", "ebs: the current folder was deleted: change to one that exists\n") == (
        done.returncode,
        done.stdout,
        done.stderr,
    )


def test_process_of_ours_imports_our_packages_and_the_folder_that_it_was_started_in(shop):
    """Ours win; the user's modules are found, a relative PYTHONPATH means what it meant, arguments arrive."""
    done = run(*start.command("probe", "--some", "argument"), cwd=shop, PYTHONPATH="lib")
    assert 0 == done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert [start.FOLDER, str(shop)] == found["path"][:2]
    assert str(shop) == found["cwd"]
    assert ["--some", "argument"] == found["argv"]
    assert str(shop / "lib" / "helper.py") == found["helper"]
    assert {str(Path(start.FOLDER, name, "__init__.py")) for name in start.PACKAGES} == {
        found[name] for name in start.PACKAGES
    }


def test_command_is_found_though_the_environment_has_packages_of_our_names(shop):
    """A PYTHONPATH that leads to an `api` of the user's does not lead `ebs` there."""
    done = run(sys.executable, "-m", "ebs", "--version", cwd=shop.parent, PYTHONPATH=str(shop))
    assert (0, "ebs") == (done.returncode, done.stdout[:3]), done.stderr


@pytest.mark.parametrize(
    ("files", "whose"), [([], "ours"), (["agents/__init__.py"], "theirs"), (["agents/namespace.py"], "theirs")]
)
def test_other_processes_find_our_packages_last(installed, tmp_path, files, whose):
    """Another library's `agents` stays what it was, also one without an `__init__.py`; without one, ours is there."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for file in files:
        (folder / file).parent.mkdir()
        (folder / file).write_text("")
    code = f"import sys; sys.path[1:1] = [{str(installed)!r}]\n"
    code += (installed / "ebs" / "lend.pth").read_text()
    code += "import agents; print(getattr(agents, 'whose', 'theirs'))"
    done = run(sys.executable, "-S", "-c", code, cwd=folder, PYTHONPATH="")
    assert (whose, "") == (done.stdout.strip(), done.stderr)


def test_packages_that_ours_hide_are_found(shop, monkeypatch):
    """In the folder where we are and on the path; not ours, and no folder without modules."""
    (shop / "api" / "__init__.py").unlink()
    monkeypatch.chdir(shop)
    (shop / "lib" / "app.py").write_text("")
    hidden = hidden_packages([start.FOLDER, str(shop / "lib"), str(shop)])
    assert {str(shop / "app"), str(shop / "agents"), str(shop / "lib" / "app.py")} == set(hidden)


def test_names_for_users_are_those_of_a_handler():
    """`from ebs import ...` gives what is documented, and nothing else."""
    for name in ebs.__all__:
        assert name == getattr(ebs, name).__name__
    with pytest.raises(AttributeError, match="Handler"):
        _ = ebs.Handler


def test_names_for_users_need_nothing_of_ours_and_nothing_of_kafka(tmp_path):
    """A user's own test of a handler starts quickly."""
    clients = {"AsyncClient", "Client"}
    names = ", ".join(name for name in ebs.__all__ if name not in clients)
    ours = {"agents", "aiokafka", "api", "app", "faust"}
    for imported, heavy in (
        ("import ebs", ours | {"asyncio", "httpx", "msgspec"}),
        (f"from ebs import {names}", ours | {"asyncio", "httpx"}),
        (f"from ebs import {', '.join(clients)}", ours),
    ):
        probe = f"import sys; {imported}; print(sorted({heavy} & set(sys.modules)))"
        assert "[]\n" == run(sys.executable, "-c", probe, cwd=tmp_path).stdout
