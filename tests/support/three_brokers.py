"""A cluster of three real Kafkas that keeps each record on all of them, so that a test can take brokers away."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from app.addresses.ports import LOOPBACK, free_port
from ebs.local.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

BROKERS = 3
REPLICATED = {"EBS_REPLICATION_FACTOR": str(BROKERS), "EBS_MIN_INSYNC_REPLICAS": "2"}
"""Settings of processes that make their topics there."""
_CLUSTER_ID = "ebsebsebsebsebsebsebsg"
_PROPERTIES = """
node.id={number}
process.roles={roles}
controller.quorum.voters={voters}
listeners={listeners}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
"""


class _Node(EmbeddedKafka):
    """One of several: it starts again as it is, because others have what it coordinates."""

    async def _recover(self, java: Sequence[str], lock_fd: int, timeout_s: float) -> None:
        """Start nothing: a life of its own would be that of a cluster of one."""


class ThreeBrokers:
    """Three brokers, the first `controllers` of which are controllers, too.

    If the second and the third one are away: with 3 controllers nobody elects leaders any more, with 1 the first broker
    leads everything, and takes no records that two must have.
    """

    def __init__(self, directory: Path, controllers: int = BROKERS) -> None:
        controller_ports = [free_port() for _ in range(controllers)]
        voters = ",".join(f"{number}@{LOOPBACK}:{port}" for number, port in enumerate(controller_ports, 1))
        self.nodes = []
        for number in range(1, BROKERS + 1):
            port, roles = free_port(), "broker"
            listeners = f"PLAINTEXT://{LOOPBACK}:{port}"
            if number <= controllers:
                roles += ",controller"
                listeners += f",CONTROLLER://{LOOPBACK}:{controller_ports[number - 1]}"
            text = _PROPERTIES.format(number=number, roles=roles, voters=voters, listeners=listeners)
            node = _Node(
                directory / f"broker-{number}",
                port,
                heap_mb=256,
                extra_properties=text,
                format_options=["-t", _CLUSTER_ID],
            )
            self.nodes.append(node)

    @property
    def bootstrap(self) -> str:
        """The addresses of all brokers."""
        return ",".join(node.bootstrap for node in self.nodes)

    async def start(self) -> None:
        """Start those that do not run; a first one answers once a second one is there."""
        await asyncio.gather(*(node.start() for node in self.nodes if node.pid is None))


@asynccontextmanager
async def three_brokers(directory: Path, controllers: int = BROKERS) -> AsyncIterator[ThreeBrokers]:
    """Return a running cluster, which ends with the block."""
    cluster = ThreeBrokers(directory, controllers)
    try:
        await cluster.start()
        yield cluster
    finally:
        for node in cluster.nodes:
            node.kill()
