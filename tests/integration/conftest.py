"""One real Apache Kafka for all integration tests; nothing skips: a broker that does not start is a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from broker_site import Site, running_site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shared_broker import SharedBroker

    from ebs.local.embedded_kafka import EmbeddedKafka


@pytest.fixture
def kafka(shared_broker: SharedBroker) -> Iterator[EmbeddedKafka]:
    """Return a running broker without topics."""
    with shared_broker.lent() as broker:
        yield broker


@pytest.fixture
def site(shared_broker: SharedBroker, tmp_path: Path) -> Iterator[Site]:
    """Return a site whose broker has all topics."""
    with running_site(shared_broker, tmp_path) as one:
        yield one
