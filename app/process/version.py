"""Which version of ebs runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str | None:
    """Return the version that is installed; None in a source tree that is not."""
    try:
        return version("ebs")
    except PackageNotFoundError:
        return None
