"""A disk that is too full for the embedded Kafka: said in words, and the system goes on once there is room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from fakes import settle, until

from app.errors import EmbeddedBrokerError
from ebs.cli.local_system import LocalSystem
from ebs.local.embedded_kafka import EmbeddedKafka
from ebs.local.supervisor import StopRequest

if TYPE_CHECKING:
    from pathlib import Path

FULL = "the disk of here is full"


async def test_start_on_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    """Not Java's words for it, such as a fault in an unsafe memory access operation."""
    kafka = EmbeddedKafka(tmp_path, port=0, least_free_bytes=1 << 60)
    with pytest.raises(EmbeddedBrokerError, match=r"is full .*make room there, or choose another directory"):
        await kafka.start()
    assert "" == EmbeddedKafka(tmp_path, port=0, least_free_bytes=0).files.why_no_room()


class FullDiskKafka:
    """A broker that has ended because its disk is full, and its directory; it lives once it is started with room."""

    exit_code = 1
    log_path = "kafka.log"

    def __init__(self) -> None:
        self.files = self
        self.full = FULL
        self.is_alive = False

    def why_no_room(self) -> str:
        """Return why."""
        return self.full

    async def wait_until_ended(self) -> None:
        """Return, or live for good."""
        if self.is_alive:
            await asyncio.Event().wait()

    async def start(self) -> None:
        """Live."""
        assert not self.full, "it would die again, and the system be given up"
        self.is_alive = True


async def test_system_waits_for_room_and_continues() -> None:
    """It is said once; before, the system was given up with the broker."""
    said: list[str] = []
    unused: Any = None
    kafka, request = FullDiskKafka(), StopRequest()
    system = LocalSystem(unused, log=unused, say=said.append)
    keeping = asyncio.create_task(system._keep_kafka(cast("Any", kafka), request))
    await until(lambda: bool(said))
    assert [f"Apache Kafka has ended, and {FULL}. It starts again by itself then; its log: kafka.log"] == said
    await settle()
    assert not keeping.done(), "it was started on a full disk"
    kafka.full = ""
    await until(lambda: kafka.is_alive)
    assert "it ended with exit code 1" in said[-1]
    request.stop.set()
    await keeping
