"""The archive of Kafka's classes: used by the Java and the jars that it was made of, made once, whole or not at all."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from ebs.local.class_archive import ClassArchive

LIST = Path(__file__)  # of anything: this Java does not read it
LISTING = [f"-XX:DumpLoadedClassList={LIST}"]


class Place:
    """A Java that writes what it is told into an archive, two jars, and a cache directory."""

    def __init__(self, directory: Path) -> None:
        self.cache = directory / "cache"
        self.cache.mkdir()
        self.java = directory / "java"
        self.jars = [directory / "a.jar", directory / "b.jar"]
        for jar in self.jars:
            jar.write_text("a jar")
        self.write_java('for argument; do :; done; echo classes > "${argument#-XX:SharedArchiveFile=}"')

    def write_java(self, script: str) -> None:
        """Install another Java."""
        self.java.write_text(f"#!/bin/sh\n{script}\n")
        self.java.chmod(0o755)

    def archive(self) -> ClassArchive:
        """Return the archive as the next start sees it."""
        return ClassArchive(self.java, self.jars, self.cache)

    def make(self) -> None:
        """Make the archive."""
        assert 0 == subprocess.run(self.archive().making(LIST), check=False).returncode

    def archives(self) -> list[str]:
        """Return what the archives hold."""
        return [path.read_text() for path in self.cache.glob("classes-*")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a place without an archive."""
    return Place(tmp_path)


def test_first_start_lists_and_later_ones_use(place):
    """Between them the archive is made."""
    assert (LISTING, False) == (place.archive().options(LIST), place.archive().is_settled)
    place.make()
    (option,) = place.archive().options(LIST)
    assert option.startswith("-XX:SharedArchiveFile=")
    assert "classes\n" == Path(option.partition("=")[2]).read_text()
    assert ["classes\n"] == place.archives()


@pytest.mark.parametrize("changed", ["java", "jar", "more jars"])
def test_other_java_or_jars_have_an_archive_of_their_own(place, changed):
    """An upgrade is noticed, and lists again."""
    place.make()
    if changed == "java":
        place.write_java("exit 0")
    elif changed == "jar":
        place.jars[1].write_text("another jar")
    else:
        place.jars.append(place.java)
    assert LISTING == place.archive().options(LIST)


def test_archive_that_cannot_be_made_is_not_tried_again(place):
    """A Java without CDS costs one try."""
    place.write_java("exit 1")
    place.make()
    assert ([], True) == (place.archive().options(LIST), place.archive().is_settled)
    assert [""] == place.archives()


@pytest.mark.parametrize(("script", "list_path"), [("kill -9 $$", LIST), ("exit 143", LIST), ("exit 1", LIST / "gone")])
def test_try_that_came_to_nothing_is_repeated(place, script, list_path):
    """Java was killed, or told to end, or the list was deleted along with the broker's data."""
    place.write_java(script)
    assert 0 == subprocess.run(place.archive().making(list_path), check=False).returncode
    assert LISTING == place.archive().options(LIST)


def test_other_process_that_makes_it_is_left_alone(place):
    """Nobody waits for them."""
    with (place.cache / "classes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place.make()
    assert [] == place.archives()


def test_java_that_runs_on_after_its_maker_was_killed_keeps_others_away(place):
    """What it writes would be taken for theirs."""
    place.write_java("echo begun; read line; exit 0")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(place.archive().making(LIST), **pipes) as maker:
        assert b"begun\n" == maker.stdout.readline()
        maker.kill()
        maker.wait()
        place.make()
        assert [] == place.archives()
        maker.stdin.write(b"end\n")


def test_archives_used_last_stay(place):
    """Of others four at most, with the new one."""
    for number in range(6):
        path = place.cache / f"classes-{number}.jsa"
        path.write_text(str(number))
        os.utime(path, (number, number))
    place.make()
    assert ["3", "4", "5", "classes\n"] == sorted(place.archives())


def test_discarded_archive_is_made_again(place):
    """Whose Java crashes might have a damaged one."""
    place.make()
    place.archive().discard()
    assert LISTING == place.archive().options(LIST)
