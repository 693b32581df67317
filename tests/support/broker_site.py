"""A broker with all topics, API processes and workers on it, and what lies on its topics."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from api_process import ApiProcess
from checker import read_all
from fleet import Fleet, running_fleet
from grave import request_of

from app.events import encode
from app.names import BARE
from app.rules.dead_letters import Origin, dead_letter_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from shared_broker import SharedBroker

    from app.names import Names
    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4


class Site:
    """Where a test's processes meet."""

    def __init__(self, broker: EmbeddedKafka, directory: Path, names: Names = BARE) -> None:
        self.broker = broker
        self.directory = directory
        self.names = names

    def api(self, name: str = "api", **environment: str) -> ApiProcess:
        """Start an API process with a data directory of its own, which it finds again by its name."""
        common = {
            "EBS_BROKER": self.broker.bootstrap,
            "EBS_PARTITIONS": str(PARTITIONS),
            "EBS_DATA_DIR": str(self.directory / name),
            "EBS_STATS_DB": str(self.directory / f"{name}.db"),
        }
        return ApiProcess(self.directory, namespace=self.names.namespace, **(common | environment))

    @contextmanager
    def workers(self, **environment: str) -> Iterator[Fleet]:
        """Let a worker of each role live for the block."""
        with running_fleet(
            self.broker.bootstrap, self.directory, PARTITIONS, namespace=self.names.namespace, **environment
        ) as fleet:
            fleet.start_all()
            yield fleet

    def bury(self, numbers: Iterable[int]) -> None:
        """Write letters of tasks in one transaction, as a worker does."""
        letters = []
        for number in numbers:
            task, partition = request_of(number), number % PARTITIONS
            origin, error = Origin(self.names.task_requests, partition, number, 1), ValueError(f"no user {number}")
            letters.append((partition, encode(task), dead_letter_headers(origin, error, attempts=5, task=task)))
        self._bury(letters)

    def bury_bytes(self, topic: str, values: Iterable[bytes]) -> None:
        """Write letters of bytes of a topic that nobody could read."""
        letters = []
        for number, value in enumerate(values):
            origin = Origin(topic, number % PARTITIONS, number, 1)
            told = dead_letter_headers(origin, ValueError("no JSON"), attempts=1)
            letters.append((number % PARTITIONS, value, told))
        self._bury(letters)

    def write(self, topic: str, value: bytes) -> None:
        """Write a record as an outside producer might."""

        async def scenario() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.broker.bootstrap) as producer:
                await producer.send_and_wait(topic, value, b"key", partition=1)

        asyncio.run(scenario())

    def read(self, topic: str) -> list[Any]:
        """Return all committed records of a topic."""

        async def scenario() -> list[Any]:
            return [record async for record in read_all(self.broker.bootstrap, [topic])]

        return asyncio.run(scenario())

    def _bury(self, letters: Iterable[tuple[int, bytes, list[tuple[str, bytes]]]]) -> None:
        async def scenario() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=self.broker.bootstrap, transactional_id="grave")
            async with producer, producer.transaction():
                sent = [
                    await producer.send(self.names.dead_letters, value, b"k", partition, headers=headers)
                    for partition, value, headers in letters
                ]
                await asyncio.gather(*sent)

        asyncio.run(scenario())


@contextmanager
def running_site(shared: SharedBroker, directory: Path) -> Iterator[Site]:
    """Return a site on the shared broker, with all topics."""
    with shared.lent(PARTITIONS) as broker:
        yield Site(broker, directory)
