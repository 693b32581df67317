"""A whole system for a real browser: Kafka, API, a worker of each role, and headless Chromium before it.

Screenshots are left in tests/browser/screenshots (not in the repository): what to look at after a change.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from api_process import PATIENCE_S, ApiProcess, until
from fleet import PATIENT, Fleet
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page
    from shared_broker import SharedBroker

    from ebs.local.embedded_kafka import EmbeddedKafka

SHOTS = Path(__file__).parent / "screenshots"
PARTITIONS = 2
PATIENCE_MS = PATIENCE_S * 1_000
expect.set_options(timeout=PATIENCE_MS)  # of its own it gives up after 5 s
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first draws the same pages for less than half of the CPU time: it has no windows to put together."""
_FIX = "no Chromium is on PATH: `make chromium` as root installs Debian's; elsewhere install one by hand"


class System:
    """Everything at work on this machine, and the files that let handlers go on."""

    def __init__(self, broker: EmbeddedKafka, directory: Path) -> None:
        self.broker = broker
        self.gates = directory / "gates"
        self.gates.mkdir()
        self.env = {"EBS_BROKER": broker.bootstrap, "EBS_PARTITIONS": str(PARTITIONS)}
        self.handlers = {"EBS_PROJECT": "dashboard_handlers", "GATES": str(self.gates)}
        self.fleet = Fleet(broker.bootstrap, directory, self.env | PATIENT | self.handlers)
        data = {"EBS_DATA_DIR": str(directory / "api"), "EBS_STATS_DB": str(directory / "api.db")}
        # Every process has the project; the tests still submit objects without saying what they are.
        self.api = ApiProcess(directory, **self.env, **self.handlers, **data, EBS_GENERATE="true")

    def open_gate(self, name: str) -> None:
        """Let the tasks of an object with this name finish."""
        (self.gates / name).touch()

    def submit(self, **wanted: Any) -> str:
        """Submit an object over the API; returns its id."""
        answer = self.api.client.post("/api/objects", json=wanted)
        assert 202 == answer.status_code, answer.text
        return answer.json()["id"]

    def state_of(self, object_id: str) -> str:
        """Return an object's state."""
        return self.api.client.get(f"/api/objects/{object_id}").json()["state"]

    def reaches(self, object_id: str, state: str) -> None:
        """Wait until an object is in a state."""
        until(lambda: self.state_of(object_id) == state, lambda: f"{state}\n{self.fleet.last_words()}")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return where Chromium is; without one tests are skipped, in CI they fail (`no_skips`)."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(_FIX)
    return found


@pytest.fixture(scope="package")
def system(chromium: str, shared_broker: SharedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Return a running system; all browser tests share it, so each has names and kinds of its own."""
    assert chromium
    with shared_broker.lent(PARTITIONS) as broker:
        one = System(broker, tmp_path_factory.mktemp("system"))
        try:
            one.fleet.start_all()
            with one.api:
                until(lambda: len(one.api.client.get("/api/workers").json()["workers"]) == 3, one.fleet.last_words)
                yield one
        finally:
            one.fleet.stop()


@pytest.fixture(scope="package")
def browser(chromium: str, system: System) -> Iterator[Browser]:
    """Return a headless browser for all browser tests; each visitor has contexts of its own.

    The system starts first: `asyncio.run` does not work in a thread in which Playwright's own loop runs.
    """
    assert system
    with sync_playwright() as playwright:
        # As root there is no sandbox; the pages are our own.
        one = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=PATIENCE_MS
        )
        yield one
        one.close()


class Visitor:
    """Opens pages, and writes down what they should not do: errors on the console, requests to other hosts."""

    def __init__(self, browser: Browser, name: str) -> None:
        self._browser = browser
        self._name = name
        self._contexts: list[BrowserContext] = []
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.expected_errors: tuple[str, ...] = ()

    def visit(self, base_url: str, path: str = "/", **options: Any) -> Page:
        """Open a page in a context of its own; `options` are those of Playwright's `new_context`."""
        context = self._browser.new_context(base_url=base_url, **options)
        context.set_default_timeout(PATIENCE_MS)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: self.errors.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.goto(path)
        return page

    def shoot(self, page: Page, what: str = "") -> None:
        """Leave a screenshot of the whole page."""
        SHOTS.mkdir(exist_ok=True)
        name = "-".join(filter(None, (self._name, what)))
        page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    def close(self) -> None:
        """Close all pages."""
        for context in self._contexts:
            context.close()


@pytest.fixture
def visitor(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Return somebody who looks at pages; at the end there must have been no errors and no other hosts."""
    one = Visitor(browser, request.node.name.removeprefix("test_").translate(str.maketrans("[]/ ", "----")).strip("-"))
    yield one
    one.close()
    unexpected = [error for error in one.errors if not any(text in error for text in one.expected_errors)]
    assert [] == unexpected
    assert {"127.0.0.1"} >= {host.rpartition(":")[0] for host in one.hosts}, one.hosts


@pytest.fixture
def visit(system: System, visitor: Visitor) -> Callable[..., Page]:
    """Return a function that opens a page of the system."""
    return lambda path="/", **options: visitor.visit(system.api.url, path, **options)
