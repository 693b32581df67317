"""One real Apache Kafka for all integration tests; nothing skips: a broker that does not start is a failure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from app.local.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Return a running broker on a free port; tests share it, so each uses topics and groups of its own."""
    broker = EmbeddedKafka(tmp_path_factory.mktemp("broker"), port=0)
    asyncio.run(broker.start())
    yield broker
    asyncio.run(broker.stop())
