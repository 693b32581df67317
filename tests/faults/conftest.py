"""A broker with all topics and a fleet for each fault test; of what faults leave behind the next test meets nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from broker_site import PARTITIONS
from fleet import Fleet, running_fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shared_broker import SharedBroker

    from ebs.local.embedded_kafka import EmbeddedKafka


@pytest.fixture
def broker(shared_broker: SharedBroker) -> Iterator[EmbeddedKafka]:
    """Return a running broker with all topics."""
    with shared_broker.lent(PARTITIONS) as one:
        yield one


@pytest.fixture
def fleet(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Fleet]:
    """Return a fleet of workers on that broker; none outlives the test."""
    with running_fleet(broker.bootstrap, tmp_path, PARTITIONS) as workers:
        yield workers
