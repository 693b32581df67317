"""One real Apache Kafka for all integration tests; nothing skips: a broker that does not start is a failure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from broker_site import Site, running_site

from app.local.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Return a running broker on a free port; tests share it, so each uses topics and groups of its own."""
    broker = EmbeddedKafka(tmp_path_factory.mktemp("broker"), port=0)
    asyncio.run(broker.start())
    yield broker
    asyncio.run(broker.stop())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a site whose broker is this test's own, with all topics."""
    with running_site(tmp_path) as one:
        yield one
