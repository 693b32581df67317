"""A broker of its own for each fault test: faults leave things behind that the next test must not meet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from fleet import Fleet

from app.broker import ensure_topics
from app.local.embedded_kafka import EmbeddedKafka
from app.settings import load
from app.topics import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTITIONS = 4


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """Return a running broker with all topics."""
    kafka = EmbeddedKafka(tmp_path, port=0)

    async def start() -> None:
        await kafka.start()
        await ensure_topics(kafka.bootstrap, catalogue(load(broker=kafka.bootstrap, partitions=PARTITIONS)))

    asyncio.run(start())
    yield kafka
    asyncio.run(kafka.stop())


@pytest.fixture
def fleet(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Fleet]:
    """Return a fleet of workers on that broker; none outlives the test."""
    workers = Fleet(broker.bootstrap, tmp_path, {"EBS_PARTITIONS": str(PARTITIONS)})
    yield workers
    workers.stop()
