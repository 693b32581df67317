"""The project that EBS_PROJECT names: the user's functions, imported once in each process that asks for it."""

from __future__ import annotations

import functools
import importlib
import re
import traceback
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import SettingsError
from app.process.name_clashes import words_about
from app.telemetry.near_names import did_you_mean
from app.telemetry.plain_text import plain
from ebs import start
from ebs.errors import ProjectRefused
from ebs.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.settings.settings import Settings

_VARIABLE = "EBS_PROJECT="
_NAME = r"[^\W\d]\w*"
_SPEC = re.compile(rf"(?P<module>{_NAME}(?:\.{_NAME})*)(?::(?P<name>{_NAME}))?")
_DEFAULT_NAME = "project"
_MAX_FILES = 2_000


def project_of(settings: Settings) -> Project | None:
    """Return the project, None if the settings name none. Raises `SettingsError`."""
    return load_project(settings.project) if settings.project else None


@functools.cache
def load_project(spec: str, source: str = _VARIABLE) -> Project:
    """Return what `package.module` or `package.module:name` names, found in the current folder or the environment.

    Raises `SettingsError` with the `source` of the spec, the spec, the reason, and the user's line that raised it.
    """
    try:
        return _load(spec)
    except ProjectRefused as error:
        # Names and errors of the user's go to a terminal here, before any log is set up.
        raise SettingsError(plain(f"{source}{spec}: {error}")) from error.__cause__


def _load(spec: str) -> Project:
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise ProjectRefused("must be package.module or package.module:name, such as shop.work")
    start.prepare()
    path = match["module"]
    try:
        module = importlib.import_module(path)
    # A module runs any code when it is imported, even `sys.exit()`.
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{path}.".startswith(f"{error.name}."):
            raise ProjectRefused(f"{_missing(path)}{words_about(error)}") from error
        raise ProjectRefused(f"{path} cannot be imported: {_in_words(error)}{words_about(error)}") from error
    name = match["name"] or _DEFAULT_NAME
    found = getattr(module, name, None)
    if not isinstance(found, Project):
        what = "there is no" if found is None else f"it is of type {type(found).__name__}, not Project:"
        raise ProjectRefused(f"{what} {name} in {path}: write `{name} = ebs.Project()` there")
    found.check()
    return found


def handled_kinds(settings: Settings) -> frozenset[str] | None:
    """Return the kinds that are worked, None if that is every kind."""
    project = project_of(settings)
    return None if project is None else project.kinds


def splits_by_itself(settings: Settings, kind: str) -> bool:
    """Return whether a function splits the objects of a kind that bring no tasks of their own."""
    project = project_of(settings)
    return project is not None and project.has("split", kind)


def makes_objects_up(settings: Settings) -> bool:
    """Return whether a request that says nothing makes an object: made-up work is nothing for a user's functions."""
    return settings.generate or not settings.project


def _missing(path: str) -> str:
    """Return that there is no such module, with the modules of the current folder that have a similar name."""
    near = did_you_mean(path, islice(_modules_here(path.count(".") + 1), _MAX_FILES))
    hint = near or f": change to the folder of the project (this is {Path.cwd()}), or install it"
    return f"there is no module {path}{hint}"


def _modules_here(min_depth: int) -> Iterator[str]:
    """Yield the modules of the current folder and its packages, at least down to a depth."""
    for depth in range(max(2, min_depth)):
        for file in Path().glob("*/" * depth + "*.py"):
            parts = file.with_suffix("").parts
            if all(part.isidentifier() for part in parts):
                yield ".".join(parts).removesuffix(".__init__")


def _in_words(error: BaseException) -> str:
    """Return an import's error with the line of the user's file that raised it."""
    try:
        said = str(error)
    except BaseException as broken:  # noqa: BLE001  # an error class is anybody's code, too
        said = f"its text cannot be read ({type(broken).__name__})"
    words = f"{type(error).__name__}: {said}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    # A syntax error names its line itself.
    if frames and not isinstance(error, SyntaxError):
        words += f" ({frames[-1].filename}, line {frames[-1].lineno})"
    return words


def _is_users(filename: str) -> bool:
    return "importlib" not in filename and not filename.startswith((__file__, start.PACKAGE))
