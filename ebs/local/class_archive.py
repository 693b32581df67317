"""An archive of the classes that Kafka loads: its next starts need not read and verify them again (Java's CDS).

The first broker of a Java and a set of jars lists its classes. As soon as it answers, this file, run as a script at low
priority, makes the archive in the cache directory. Of several that try at once one does it; an archive appears whole or
not at all. Java itself makes sure that it is of the same Java and the same jars, and does without it otherwise. An
archive that could not be made is an empty file, so that nobody tries again.

The script must import nothing of this project, for it runs with `-I -S`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEPT = 4
"""Archives that stay, those used last: other Javas and other jars have their own, of some 60 MB."""
_NICENESS = 10


class ClassArchive:
    """The archive of a Java and its class path."""

    def __init__(self, java: Path, class_path: Sequence[Path], cache_dir: Path) -> None:
        self._java = java.resolve()
        self._class_path = class_path
        self._path = cache_dir / f"classes-{_digest([self._java, *class_path])}.jsa"

    @property
    def is_settled(self) -> bool:
        """Whether it is made, or cannot be."""
        return self._path.exists()

    def options(self, list_path: Path) -> list[str]:
        """Return options for Java: to use the archive, else to list the classes in a file."""
        if not self.is_settled:
            return [f"-XX:DumpLoadedClassList={list_path}"]
        if not self._path.stat().st_size:
            return []
        with suppress(OSError):  # another user's
            os.utime(self._path)
        return [f"-XX:SharedArchiveFile={self._path}"]

    def making(self, list_path: Path) -> list[str]:
        """Return the command that makes it of the classes in a file; it ends at once if another process does."""
        class_path = os.pathsep.join(map(str, self._class_path))
        dump = [str(self._java), "-Xshare:dump", "-cp", class_path]
        return [sys.executable, "-I", "-S", __file__, str(self._path), str(list_path), *dump]

    def discard(self) -> None:
        """Remove it: a Java that used it has failed."""
        self._path.unlink(missing_ok=True)


def _digest(paths: Sequence[Path]) -> str:
    """Return what changes with any of these files."""
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


def _main(path: Path, list_path: Path, dump: Sequence[str]) -> None:
    os.nice(_NICENESS)
    incoming = path.with_suffix(".incoming")
    with (path.parent / "classes.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if path.exists():
            return
        for left_over in path.parent.glob("classes-*.incoming"):  # by Javas that were killed
            left_over.unlink()
        # Java inherits the lock: it holds as long as somebody writes, even if this process is killed.
        command = [*dump, f"-XX:SharedClassListFile={list_path}", f"-XX:SharedArchiveFile={incoming}"]
        made = subprocess.run(command, check=False, pass_fds=[lock.fileno()])  # noqa: S603  # the command is our own
        if not (0 <= made.returncode < 128 and list_path.exists()):
            return  # it was killed, or asked to end, or the list was deleted: no fault of Java's
        if made.returncode > 0:
            incoming.write_bytes(b"")
        incoming.replace(path)
        archives = sorted(path.parent.glob("classes-*.jsa"), key=lambda one: one.stat().st_mtime, reverse=True)
        for former in archives[_KEPT:]:
            former.unlink(missing_ok=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
