"""`ebs new`: a small project to begin with; its tests pass, and `ebs up` runs it, as they are."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from app.errors import EbsError
from app.process.version import installed_version
from app.telemetry.plain_text import plain
from ebs.start import PACKAGES

_TEMPLATES = Path(__file__).parents[1] / "new_project"
_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_FILES = {
    ".gitignore": "gitignore.in",
    "Dockerfile": "Dockerfile.in",
    "README.md": "README.md.in",
    "compose.override.yaml": "compose.override.yaml.in",
    "order.json": "order.json.in",
    "pyproject.toml": "pyproject.toml.in",
    "tests/test_work.py": "test_work.py.in",
    "{{name}}/__init__.py": None,
    "{{name}}/work.py": "work.py.in",
}
"""The files of a project, and what each is made from; None: it is empty."""


def new(
    folder: Annotated[
        Path, typer.Argument(metavar="NAME", help="Name of the project, or the path of a new folder that ends with it.")
    ],
) -> None:
    """Make a small project: functions, tests, Dockerfile.

    The functions are a split, a task and a join. The project is a new folder with a package of the same name. No file
    is overwritten.
    """
    folder = folder.expanduser().absolute()
    name = folder.name
    reason = why_no_name(name, [entry for entry in sys.path if Path(entry).resolve() != Path.cwd()])
    if reason is not None:
        raise typer.BadParameter(reason)
    if folder.is_dir() and any(folder.iterdir()):
        raise EbsError(f"{folder} is not empty, and nothing in it is overwritten: choose another name or folder")
    try:
        for path, text in files_of(name).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    except OSError as error:
        raise EbsError(f"{folder} cannot be made: {error.strerror}") from None
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    typer.echo(plain(f"made the project {name}: its functions are in {shown / name / 'work.py'}") + "\n")
    typer.echo(plain(f"  cd {shown}"))
    for command, meaning in (
        ("pytest", "its tests, without Kafka (pip install pytest)"),
        (f"ebs run {name}.work order @order.json", "one order in this process"),
        (f"ebs up --project {name}.work --reload", "the whole system, until Ctrl-C"),
    ):
        typer.echo(f"  {command:<48}# {meaning}")


def files_of(name: str) -> dict[str, str]:
    """Return the text of each file of a project, by its path."""
    values = {"{{name}}": name, "{{version}}": installed_version() or "0.1.0"}
    return {
        _filled(path, values): "" if source is None else _filled((_TEMPLATES / source).read_text(), values)
        for path, source in _FILES.items()
    }


def why_no_name(name: str, path: list[str]) -> str | None:
    """Return why a project cannot have a name, None if it can; `path`: where other modules would be found."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        words = "_".join(re.findall(r"[a-z0-9]+", name.lower()))
        hint = f", such as {words}" if _NAME.fullmatch(words) and not keyword.iskeyword(words) else ", such as shop"
        return (
            f"{plain(repr(name))} cannot be the name of a package: use lower-case letters, digits and single "
            f"underscores, begin with a letter, and use no keyword of Python{hint}"
        )
    if name in PACKAGES or name == "ebs":
        return f"{name} is a package of ebs itself, which would hide your package in workers: choose another name"
    if name == "tests":
        return "tests is the folder of the project's tests: choose another name"
    if name in sys.stdlib_module_names or _is_elsewhere(name, path):
        return f"{name} is an installed module, and your package would hide it: choose another name"
    return None


def _is_elsewhere(name: str, path: list[str]) -> bool:
    before = sys.path[:]
    sys.path[:] = path
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return True
    finally:
        sys.path[:] = before


def _filled(text: str, values: dict[str, str]) -> str:
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text
