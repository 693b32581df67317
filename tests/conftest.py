"""What all tests share: the event loop that the programs run on, the limit of a hang, how properties are tried."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from app.process.event_loop import use_uvloop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_site import Site
    from shared_broker import SharedBroker

    from ebs.local.embedded_kafka import EmbeddedKafka

pytest_plugins = ["time_limits", "no_skips", "fork_server", "cost_by_file"]

_BROWSER = "tests/browser/"
_TESTS = Path(__file__).parent
_WITHOUT_BROKER = {"unit", "functional", "model"}
_shared: list[SharedBroker] = []

# Whether a test file runs alone or with others, as the first import of an agent would install it anyway.
use_uvloop()

# How long an example takes is the machine's business: a busy one would fail what is right. And everybody tries the same
# examples, so that a run says something about the change; `--hypothesis-profile default` looks for others.
settings.register_profile(
    "ebs", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
settings.load_profile("ebs")


class _ByFile(LoadFileScheduling):
    """Gives the tests of a file to one process, and all browser tests, because they share one running system."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return _BROWSER if file.startswith(_BROWSER) else file


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what stays: thousands of tests, and the modules that they import."""
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Say for `--dist loadfile` which tests belong together."""
    return _ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedBroker]:
    """Return the one broker of this process; a test has it through `kafka`, `site` or `broker`."""
    from shared_broker import SharedBroker  # noqa: PLC0415  # most tests do without Kafka's clients

    one = SharedBroker(tmp_path_factory.mktemp("broker"))
    _shared.append(one)
    yield one
    _shared.remove(one)
    one.stop()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop the shared broker where tests without one have come: alone it takes a twentieth of a core."""
    if item.path.relative_to(_TESTS).parts[0] in _WITHOUT_BROKER:
        for one in _shared:
            one.stop()


@pytest.fixture
def kafka(shared_broker: SharedBroker) -> Iterator[EmbeddedKafka]:
    """Return a running broker without topics."""
    with shared_broker.lent() as broker:
        yield broker


@pytest.fixture
def site(shared_broker: SharedBroker, tmp_path: Path) -> Iterator[Site]:
    """Return a site whose broker has all topics."""
    from broker_site import running_site  # noqa: PLC0415  # as above

    with running_site(shared_broker, tmp_path) as one:
        yield one
