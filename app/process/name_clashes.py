"""Packages of others that have the names of ours: in a process of ours nobody sees them (`ebs/start.py`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ebs.start import FOLDER, PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterable


def hidden_packages(entries: Iterable[str] | None = None) -> list[str]:
    """Return the packages and modules of our names in the current folder and on `entries` (`sys.path`)."""
    places = dict.fromkeys(Path(entry).resolve() for entry in ("", *(sys.path if entries is None else entries)))
    candidates = [place / name for place in places if place != Path(FOLDER) for name in PACKAGES]
    modules = [path.with_suffix(".py") for path in candidates]
    return [str(path) for path in candidates if any(path.glob("*.py"))] + [
        str(path) for path in modules if path.is_file()
    ]


def words_about(error: BaseException) -> str:
    """Return what an import's error has to do with such a package; empty: nothing."""
    name = ((error.name if isinstance(error, ImportError) else None) or "").partition(".")[0]
    for path in hidden_packages() if name in PACKAGES else ():
        if Path(path).stem == name:
            return (
                f"; ebs has a package {name} of its own, which hides {path} in workers: rename that one, or let the "
                "handler use it in a program that it starts"
            )
    return ""
