"""Writes the pins of a version of Apache Kafka: `make pin-kafka KAFKA=4.5.0` makes `ebs/local/kafka_jars/4.5.0.txt`."""

from __future__ import annotations

import sys
import tempfile
import tomllib
from pathlib import Path

import jgo

from ebs.local.kafka_runtime import PINS

_LOGGING = "org.slf4j:slf4j-simple:1.7.36"
_LOG4J_1 = "ch.qos.reload4j:reload4j:1.2.26"
"""Kafka 3 loads a class that needs log4j 1, and leaves it to its users to bring it."""


def main(version: str) -> None:
    """Resolve the jars as Maven does and write digest, size and coordinate of each."""
    wanted = [f"org.apache.kafka:kafka_2.13:{version}", _LOGGING, *([_LOG4J_1] if version.startswith("3.") else [])]
    with tempfile.TemporaryDirectory() as directory:
        resolved = jgo.build("+".join(wanted), cache_dir=Path(directory))
        sizes = {jar.name: jar.stat().st_size for jar in resolved.all_jars}
        locked = tomllib.loads((resolved.path / "jgo.lock.toml").read_text())["dependencies"]
    rows = sorted(
        (
            f"{jar['groupId']}:{jar['artifactId']}:{jar['version']}",
            jar["sha256"],
            sizes[f"{jar['artifactId']}-{jar['version']}.jar"],
        )
        for jar in locked
    )
    if len(rows) != len(sizes):
        sys.exit(f"{len(sizes)} jars were resolved, and {len(rows)} are locked: look at {resolved.path}")
    head = (
        f"# The jars of Apache Kafka {version} with all that they need at run time: SHA-256, bytes, coordinate.\n"
        f"# Made by `make pin-kafka KAFKA={version}`.\n"
    )
    lines = [f"{sha256} {size_bytes:>8} {coordinate}\n" for coordinate, sha256, size_bytes in rows]
    (PINS / f"{version}.txt").write_text(head + "".join(lines))
    print(f"{len(rows)} jars, {sum(sizes.values()) / 1e6:.0f} MB: {PINS / version}.txt")


if __name__ == "__main__":
    main(sys.argv[1])
