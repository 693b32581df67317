"""The project that EBS_PROJECT names: the user's functions, imported once in each process that asks for it."""

from __future__ import annotations

import functools
import importlib
import re
import traceback
from typing import TYPE_CHECKING

from app.errors import SettingsError
from app.process.name_clashes import words_about
from app.telemetry.plain_text import plain
from ebs import start
from ebs.errors import ProjectRefused
from ebs.project import Project

if TYPE_CHECKING:
    from app.settings.settings import Settings

_VARIABLE = "EBS_PROJECT"
_NAME = r"[^\W\d]\w*"
_SPEC = re.compile(rf"(?P<module>{_NAME}(?:\.{_NAME})*)(?::(?P<name>{_NAME}))?")
_DEFAULT_NAME = "project"


def project_of(settings: Settings) -> Project | None:
    """Return the project, None if the settings name none. Raises `SettingsError`."""
    return load_project(settings.project) if settings.project else None


@functools.cache
def load_project(spec: str) -> Project:
    """Return what `package.module` or `package.module:name` names, found in the current folder or the environment.

    Raises `SettingsError` with the spec, the reason, and the user's line that raised it.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise _refused(spec, "must be package.module or package.module:name, such as shop.work")
    start.prepare()
    try:
        module = importlib.import_module(match["module"])
    # A module runs any code when it is imported, even `sys.exit()`.
    except (Exception, SystemExit) as error:
        raise _refused(spec, f"{match['module']} cannot be imported: {_in_words(error)}{words_about(error)}") from error
    name = match["name"] or _DEFAULT_NAME
    found = getattr(module, name, None)
    if not isinstance(found, Project):
        what = "there is no" if found is None else f"it is of type {type(found).__name__}, not Project:"
        raise _refused(spec, f"{what} {name} in {match['module']}: write `{name} = ebs.Project()` there")
    try:
        found.check()
    except ProjectRefused as error:
        raise _refused(spec, str(error)) from None
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


def _refused(spec: str, reason: str) -> SettingsError:
    # Names and errors of the user's go to a terminal here, before any log is set up.
    return SettingsError(plain(f"{_VARIABLE}={spec}: {reason}"))


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
