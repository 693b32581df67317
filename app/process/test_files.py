"""Which of a project's files are tests, by the names that pytest knows. Workers need no restart for those."""

from __future__ import annotations

import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_FOLDERS = frozenset({"tests", "test"})
_NAMES = ("test_*.py", "*_test.py", "conftest.py")


def is_test(path: Path) -> bool:
    """Return whether a file is a test; `path` is relative to the folder of the project."""
    return not _FOLDERS.isdisjoint(path.parts[:-1]) or any(fnmatch(path.name, name) for name in _NAMES)


def imported_tests(folder: Path, modules: Iterable[object] | None = None) -> list[str]:
    """Return the files in a folder that look like tests, and that this process has imported as `modules`."""
    loaded = list(sys.modules.values()) if modules is None else modules
    files = [Path(one) for module in loaded if isinstance(one := getattr(module, "__dict__", {}).get("__file__"), str)]
    inside = [file.relative_to(folder) for file in files if file.is_relative_to(folder)]
    return sorted(str(path) for path in inside if is_test(path))
