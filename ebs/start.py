"""What a process of ours can import, and how it starts: `python -m ebs.start MODULE ARGUMENTS...`.

Our packages are named `app`, `agents` and `api`. A user may have an `app`; another library has an `agents`. Therefore:
- An installation keeps our packages in a folder of their own, `ebs/_system`: no file of another library is overwritten.
- A process of ours looks there first, and then in the folder where it was started: our packages win (`prepare`).
- Any other Python of the environment finds our packages last, when nobody else has the name (`lend`). So
  `faust -A agents.processing worker` works, and a user's own programs keep their own packages.

`ebs up` runs this file by its path, and each Python of the environment imports it at its start: it must stay small.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

PACKAGES = ("app", "agents", "api")

_HERE = PACKAGE = os.path.dirname(os.path.realpath(__file__))
_INSTALLED = os.path.join(_HERE, "_system")
FOLDER = _INSTALLED if os.path.isdir(_INSTALLED) else os.path.dirname(_HERE)
"""Where our packages are; for an editable installation that is the clone."""


def check_folder() -> None:
    """End this process with one line if its current folder is gone: nothing that is relative to it means anything."""
    try:
        os.getcwd()
    except FileNotFoundError:
        sys.exit("ebs: the current folder was deleted: change to one that exists")


def claim() -> None:
    """Let this process import our packages first."""
    sys.path[:] = [FOLDER, *_without(FOLDER)]


def prepare() -> None:
    """Let this process import our packages first, then what is in the current folder, then all else."""
    here = os.getcwd()
    sys.path[:] = [*dict.fromkeys((FOLDER, here)), *_without(FOLDER, here, "")]
    for name in PACKAGES:  # now, as uvicorn and Faust put the current folder first before they import
        __import__(name)


def _without(*entries: str) -> list[str]:
    return [entry for entry in sys.path if entry not in entries]


class _LastResort:
    """Finds our packages, as the last finder of a process."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):  # type: ignore[no-untyped-def]
        return PathFinder.find_spec(name, [FOLDER]) if name in PACKAGES else None


def lend() -> None:
    """Let this process import our packages where nobody else has their names."""
    sys.meta_path.append(_LastResort)


def command(*arguments: str) -> list[str]:
    """Return the command that runs a module in a process of ours."""
    # -P: with the folder of this file on the path, `ebs` itself could not be imported.
    return [sys.executable, "-P", os.path.abspath(__file__), *arguments]


def _run_module() -> None:
    import runpy  # noqa: PLC0415  # see the module's docstring

    if len(sys.argv) < 2:
        sys.exit("usage: python -m ebs.start MODULE ARGUMENTS..., such as faust -A agents.processing worker")
    check_folder()
    prepare()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run_module()
