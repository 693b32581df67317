"""What a person sees when things are not there: unknown pages, a broker or an API that is away, another site's form."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from api_process import PATIENCE_S, ApiProcess, until
from playwright.sync_api import expect

from app.addresses.ports import free_port
from app.kafka.cluster import Cluster
from app.settings.settings import load
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics
from ebs.local.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


@pytest.fixture
def elsewhere() -> Iterator[Callable[[Coroutine[Any, Any, Any]], None]]:
    """Return a function that runs something while Playwright's own loop is in this thread's way.

    It is one thread, for the broker ends with the thread that started it.
    """
    with ThreadPoolExecutor(1) as pool:
        yield lambda coroutine: pool.submit(asyncio.run, coroutine).result(PATIENCE_S)


@pytest.mark.parametrize("path", ["/nowhere", "/objects/nobody", "/dead-letters/9-9"])
def test_unknown_page_leads_back(visit, visitor, path):
    """A 404 with a way home."""
    visitor.expected_errors = ("404",)
    page = visit(path)
    expect(page.locator("main")).to_contain_text("Go to the overview")
    visitor.shoot(page)
    page.get_by_role("link", name="Go to the overview").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def test_form_of_another_site_is_refused(system, visit, visitor):
    """A page of another origin cannot pause the system through the person's browser."""
    visitor.expected_errors = ("403",)
    page = visit("/static/icon.svg")
    page.goto("about:blank")
    page.set_content(f'<form method="post" action="{system.api.url}/control/pause"><button>win a prize</button></form>')
    page.get_by_role("button").click()
    expect(page.locator("main")).to_contain_text("another site")
    assert system.api.client.get("/api/control").json()["paused"] is None
    visitor.shoot(page)


def test_connection_that_is_lost_is_said_and_comes_back(system, visitor, tmp_path):
    """The API dies under an open page: it says so, and goes on by itself when the API is back."""
    visitor.expected_errors = ("ERR_", "Failed to load")
    env = {**system.env, "EBS_DATA_DIR": str(tmp_path / "api"), "EBS_STATS_DB": str(tmp_path / "api.db")}
    with ApiProcess(tmp_path, **env) as first:
        page = visitor.visit(first.url)
        expect(page.locator("#connection")).to_have_text("Live")
        first.kill()
        expect(page.locator("#connection")).to_contain_text("Connection lost")
        visitor.shoot(page)
    with ApiProcess(tmp_path, port=first.port, **env):
        # Where it was drawn before the API was ready it loads itself again, as it lacks the forms.
        expect(page.locator("#connection")).to_have_text("Live")
        expect(page.locator("[data-trouble]")).to_have_count(0)


def test_broker_that_is_away_is_drawn_and_followed_until_it_is_there(visitor, tmp_path, elsewhere):
    """Every page says what is missing; with the broker there they are whole, without anybody loading them again."""
    visitor.expected_errors = ("503", "ERR_")
    broker = EmbeddedKafka(tmp_path / "broker", port=free_port())
    env = {"EBS_BROKER": broker.bootstrap, "EBS_PARTITIONS": "1", "EBS_VIEW_WAIT_S": "1"}
    api = ApiProcess(tmp_path, **env, EBS_DATA_DIR=str(tmp_path / "api"), EBS_STATS_DB=str(tmp_path / "api.db"))
    try:
        until(lambda: _is_alive(api), api.log_path.read_text)
        page, control = visitor.visit(api.url), visitor.visit(api.url, "/control")
        expect(page.locator("#broker-away")).to_contain_text("The broker is unreachable")
        expect(page.locator("#live")).to_contain_text("Not available right now")
        visitor.shoot(page, "away")
        elsewhere(broker.start())
        elsewhere(ensure_topics(Cluster(broker.bootstrap), catalogue(load(broker=broker.bootstrap, partitions=1))))
        expect(page.locator("#no-objects")).to_be_visible()
        expect(control.get_by_role("button", name="Pause")).to_be_visible()
        visitor.shoot(page, "there")
    finally:
        api.client.close()
        api.kill()
        elsewhere(broker.stop())


def _is_alive(api: ApiProcess) -> bool:
    try:
        return api.client.get("/livez").status_code == 200
    except httpx.TransportError:
        return False
