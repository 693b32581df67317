"""How to install what an extra of ours needs, in words that work from any folder: ebs may be installed from a clone."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires

_REQUIREMENT = re.compile(r"(?P<package>[^;]+?)\s*;\s*extra == ['\"](?P<extra>[^'\"]+)['\"]")


def how_to_install(extra: str, requirements: list[str] | None = None) -> str:
    """Return the command that installs the packages of an extra beside this ebs."""
    if requirements is None:
        requirements = _own_requirements()
    matches = filter(None, map(_REQUIREMENT.fullmatch, requirements))
    packages = [match["package"] for match in matches if match["extra"] == extra]
    return shlex.join([sys.executable, "-m", "pip", "install", *(packages or [f"ebs[{extra}]"])])


def _own_requirements() -> list[str]:
    try:
        return requires("ebs") or []
    except PackageNotFoundError:  # a clone that is not installed
        return []
