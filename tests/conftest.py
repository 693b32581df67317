"""What all tests share: the event loop that the programs run on, the limit of a hang, how properties are tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from app.process.event_loop import use_uvloop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared_broker import SharedBroker

pytest_plugins = ["time_limits", "no_skips", "fork_server", "cost_by_file"]

# Whether a test file runs alone or with others, as the first import of an agent would install it anyway.
use_uvloop()

# How long an example takes is the machine's business: a busy one would fail what is right. And everybody tries the same
# examples, so that a run says something about the change; `--hypothesis-profile default` looks for others.
settings.register_profile(
    "ebs", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
settings.load_profile("ebs")


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedBroker]:
    """Return the one broker of this process; a test has it through `kafka`, `site` or `broker`."""
    from shared_broker import SharedBroker  # noqa: PLC0415  # most tests do without Kafka's clients

    one = SharedBroker(tmp_path_factory.mktemp("broker"))
    yield one
    one.stop()
