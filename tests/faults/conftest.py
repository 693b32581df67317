"""A broker of its own for each fault test: faults leave things behind that the next test must not meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from broker_site import PARTITIONS, running_site
from fleet import Fleet, running_fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.local.embedded_kafka import EmbeddedKafka


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """Return a running broker with all topics."""
    with running_site(tmp_path) as site:
        yield site.broker


@pytest.fixture
def fleet(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Fleet]:
    """Return a fleet of workers on that broker; none outlives the test."""
    with running_fleet(broker.bootstrap, tmp_path, PARTITIONS) as workers:
        yield workers
