"""Imports the workers' code into a process that is not ours, whatever it calls `app`, `agents` or `api`.

In a worker these names are ours (`ebs/start.py`). In a process that tests a user's functions they belong to the user:
a web application has an `app`, a library has an `agents`.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from ebs.start import FOLDER, PACKAGES, claim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_kept: dict[str, ModuleType] = {}
"""Our modules whose names are somebody else's: for the next import."""


@contextmanager
def own_packages() -> Iterator[None]:
    """Let imports find our packages within the block; after it, each name means again what it meant before."""
    path = list(sys.path)
    elsewhere = [entry for entry in path if os.path.realpath(entry or os.curdir) != FOLDER]
    theirs = {package for package in PACKAGES if _is_theirs(package, elsewhere)}
    set_aside = _take(theirs)
    sys.modules.update(_kept)
    claim()
    try:
        yield
    finally:
        sys.path[:] = path
        _kept.update(_take(theirs))
        sys.modules.update(set_aside)


def _is_theirs(package: str, path: list[str]) -> bool:
    """Return whether a name of ours means another package here, imported or not."""
    loaded = sys.modules.get(package)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)  # None: a folder without an __init__.py, ours all have one
        return file is None or not os.path.realpath(file).startswith(FOLDER + os.sep)
    return PathFinder.find_spec(package, path) is not None


def _take(packages: set[str]) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] in packages]
    return {name: sys.modules.pop(name) for name in names}
