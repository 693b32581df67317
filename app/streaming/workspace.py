"""The directory of a process's stores: its own while it lives, swept by the next process once it is gone."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.errors import StoreFailed
from app.process import forked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)


class Workspace:
    """A directory below `parent` for this process, made at first use and locked until the process ends.

    Stores are caches, so what a dead process left is deleted, not reused. The lock is the kernel's (flock): it goes
    with the process however that ends, so a directory that can be locked belongs to nobody.
    """

    def __init__(self, parent: Path, instance: str) -> None:
        self._parent = parent
        self._instance = instance
        self._path: Path | None = None
        self._lock: int | None = None

    @property
    def path(self) -> Path:
        """The directory itself."""
        if self._path is None:
            try:
                self._path = self._make()
            except OSError as error:
                raise StoreFailed(
                    f"tables cannot be kept in {self._parent} ({error}): make it a folder that can be written, or "
                    "choose another one with EBS_DATA_DIR; nothing is lost, as the changelogs have all rows"
                ) from error
        return self._path

    def _make(self) -> Path:
        """Sweep what dead processes have left, and make the directory of this one."""
        self._parent.mkdir(parents=True, exist_ok=True)
        # One at a time, or another one sweeps this directory before it is locked.
        with _locked(self._parent):
            for old in self._parent.iterdir():
                _sweep(old)
            path = self._parent / f"{self._instance}-{os.getpid()}"
            path.mkdir(exist_ok=True)
            self._lock = _try_lock(path)
        if self._lock is not None:
            forked.private.append(self._lock)
        return path


def _sweep(directory: Path) -> None:
    try:
        lock = _try_lock(directory) if directory.is_dir() else None
    except OSError:
        log.debug("could not lock %s", directory)
        return
    if lock is not None:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _try_lock(directory: Path) -> int | None:
    descriptor = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
