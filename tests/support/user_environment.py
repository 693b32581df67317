"""A user's folder and virtual environment: ebs installed by `pip install PATH`, and all that may be in its way."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_LIBRARY = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "pricing"
version = "1"
[tool.hatch.build.targets.wheel]
packages = ["pricing", "agents"]
""",
    "pricing/__init__.py": "def price_of(lines): return 2 * int(lines)",
    # Like openai-agents: a package of a name of ours.
    "agents/__init__.py": "class Agent: pass",
    "agents/processing.py": "raise ImportError('not the one of ebs')",
}
_FOLDER = {
    "shop/work.py": """
import os

from pricing import price_of
from taxes import TAX

from ebs import Project, cpu_bound

project = Project()


@project.task("order")
def price(task, context):
    return {"price": price_of(task.content) + TAX, "folder": os.getcwd()}


@project.task("apart")
@cpu_bound
def price_apart(task, context):
    return price(task, context)
""",
    "lib/taxes.py": "TAX = 1",
    "app/__init__.py": "",
    "api/__init__.py": "raise ImportError('not the one of ebs')",
}


@dataclass(frozen=True)
class Shop:
    """Where the user works, and the folder of the programs of the user's environment."""

    folder: Path
    programs: Path


def make_shop(directory: Path) -> Shop:
    """Make a user's folder and environment. What ebs depends on is borrowed from this one: nothing is fetched."""
    _write(directory / "library", _LIBRARY)
    _write(directory / "shop", _FOLDER)
    environment = directory / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    subprocess.run([*install, *options, directory / "library", _ROOT], check=True, timeout=300)
    return Shop(directory / "shop", environment / "bin")


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
