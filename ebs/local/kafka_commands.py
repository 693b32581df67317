"""The settings file and the two command lines of the embedded Apache Kafka."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PROPERTIES = """\
# Written anew at every start.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={log_dir}
auto.create.topics.enable=false

# Heartbeats come well below it.
broker.session.timeout.ms={session_timeout_ms}
broker.heartbeat.interval.ms=500

# For first looks and tests: no waiting for more members, deaths noticed quickly.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
"""

_SESSION_TIMEOUT_MS = 9_000
"""Kafka's default. A machine that stands still for longer fences its only broker: transactions fail, workers end."""
_RECOVERY_SESSION_TIMEOUT_MS = 2_000
"""The registration of a broker that was killed stands in the way of its next life for this long."""

_LOG_OPTIONS = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
    # Or each start prints three pages of settings, and the last lines before an error are never the error.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",
)


def server_properties(*, host: str, port: int, controller_port: int, log_dir: Path, is_recovering: bool = False) -> str:
    """Return the text of `server.properties` for one node in both KRaft roles, or for its first life after a crash."""
    return _PROPERTIES.format(
        host=host,
        port=port,
        controller_port=controller_port,
        session_timeout_ms=_RECOVERY_SESSION_TIMEOUT_MS if is_recovering else _SESSION_TIMEOUT_MS,
        log_dir=json.dumps(str(log_dir))[1:-1],  # Java reads properties as Latin-1 with the escapes that JSON has too
    )


def format_command(java: Sequence[str], properties: Path, cluster_id: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command that writes the storage's `meta.properties`, once in its life; `java` is how Java begins."""
    tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties), *options]
    return [*java, "-XX:TieredStopAtLevel=1", *tool]


def server_command(java: Sequence[str], properties: Path, *, heap_mb: int, quick_start: bool) -> list[str]:
    """Return the command of the broker; `quick_start` uses Java's first compiler only."""
    compiler = ["-XX:TieredStopAtLevel=1"] if quick_start else []
    return [*java, f"-Xmx{heap_mb}m", *compiler, *_LOG_OPTIONS, "kafka.Kafka", str(properties)]


def java_command(java: Path, class_path: Sequence[Path], options: Sequence[str] = ()) -> list[str]:
    """Return how a command of Java begins; a program and its arguments follow."""
    return [str(java), "-XX:+UseSerialGC", *options, "-cp", os.pathsep.join(map(str, class_path))]
