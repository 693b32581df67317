"""Live parts of the dashboard: loaded and drawn once for all tabs of a page, a query and rights."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from asgi_stream import AsgiStream
from browsing import BROWSER
from fakes import settle
from starlette.routing import Route

from api.dashboard.inside import outer_of
from api.dashboard.live import LiveParts, event
from api.objects.list_page import PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

READ, WRITE = "read-key-0123456789", "write-key-0123456789"
EVENT = b"event: live"
PATH = "/live/counted"


class Counted:
    """The list of objects at a path of its own, drawn as fast as it goes; `queries` has one entry for each load."""

    def __init__(self, api: Any, *, every_s: float = 0.0) -> None:
        self.queries: list[Mapping[str, str]] = []
        self.failure: Exception | None = None
        page = PAGE._replace(path="/counted", load=self._load, every_s=lambda _query: every_s)
        self.live = LiveParts(api.app)
        api.app.router.routes.insert(0, Route(PATH, lambda request: self.live.answer(request, page)))

    async def _load(self, asked: Any) -> dict[str, Any]:
        self.queries.append(asked.query)
        if self.failure is not None:
            raise self.failure
        return await PAGE.load(asked)


@pytest.fixture
def once(api):
    """Return a page that is loaded again only when a new tab comes."""
    return Counted(api, every_s=3_600)


def streams(api, *paths: str, **headers: str) -> list[AsgiStream]:
    """Return tabs that are not open yet."""
    return [AsgiStream(api.app, path, headers) for path in paths]


def last_event(tab: AsgiStream) -> bytes:
    """Return the newest event that has come whole."""
    return tab.body[tab.body.rindex(EVENT) :]


def test_all_tabs_get_the_same_bytes_of_one_load(api, once):
    """A new tab gets the state at once, without waiting for the next round; the tabs that are open get it with it."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            tabs = [await stack.enter_async_context(tab) for tab in streams(api, *[PATH] * 10)]
            for tab in tabs:
                await tab.until(EVENT)
            before = len(once.queries)
            await api.client.post("/api/objects", json={"name": "news"})
            tabs += [await stack.enter_async_context(tab) for tab in streams(api, PATH)]
            for tab in tabs:
                await tab.until(b"news")
            assert before + 1 == len(once.queries)
            assert 1 == len({last_event(tab) for tab in tabs})

    api.run(scenario())


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        ("", "", True),
        ("", "?kind=mail", False),
        ("?kind=default", "?kind=mail", False),
        ("?kind=mail", "?kind=mail&since=1h", False),
        ("?kind=mail&since=1h", "?since=1h&kind=mail", True),
    ],
)
def test_each_query_has_a_load_of_its_own(api, once, first, second, is_shared):
    """What a load shows is for tabs of its query; the order of the query's parts does not matter."""

    async def scenario() -> bool:
        one, other = streams(api, PATH + first, PATH + second)
        async with one:
            await one.until(EVENT)
            await api.client.post("/api/objects", json={"name": "news", "kind": "mail"})
            async with other:
                await other.until(b"news")
                await settle()
                return b"news" in one.body

    assert is_shared == api.run(scenario())
    assert 2 == len(once.queries)


def test_tabs_of_two_objects_get_each_their_own(api):
    """What stands in the path tells them apart, as the query does."""
    ids = [api.post(json={"name": name}).json()["id"] for name in ("apple", "pear")]

    async def scenario() -> list[bytes]:
        tabs = streams(api, *(f"/live/objects/{one}" for one in ids))
        async with tabs[0], tabs[1]:
            return [await tab.until(EVENT) for tab in tabs]

    for body, wanted, other in zip(api.run(scenario()), ids, reversed(ids), strict=True):
        assert wanted.encode() in body
        assert other.encode() not in body


def test_tabs_of_two_pages_get_each_their_own(api):
    """Though both have the same query."""

    async def scenario() -> tuple[bytes, bytes]:
        objects, workers = streams(api, "/live/objects", "/live/workers")
        async with objects, workers:
            return await objects.until(b"No objects yet"), await workers.until(EVENT)

    _, workers = api.run(scenario())
    assert b"No objects yet" not in workers


def test_tabs_of_different_rights_share_nothing(make_api):
    """Each load has the rights of its tabs; nothing else of a tab's request goes into it, and no key opens nothing."""
    api = make_api(api_keys_read=READ, api_keys_write=WRITE)
    seen: list[Mapping[str, Any]] = []

    class Recorder:
        def __init__(self, app: Any) -> None:
            self._app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            outer = outer_of(scope)
            if outer is not None:
                seen.append(outer)
            await self._app(scope, receive, send)

    api.app.add_middleware(Recorder)
    Counted(api, every_s=3_600)

    async def scenario() -> None:
        reader, writer = (AsgiStream(api.app, PATH, {"x-api-key": key, "cookie": f"a={key}"}) for key in (READ, WRITE))
        async with reader:
            await reader.until(EVENT)
            await api.client.post("/api/objects", json={"name": "news"}, headers={"x-api-key": WRITE})
            async with writer:
                await writer.until(b"news")
                await settle()
                assert b"news" not in reader.body
                async with AsgiStream(api.app, PATH, {"x-api-key": READ}):
                    await reader.until(b"news")
        assert 401 == (await api.client.get(PATH)).status_code

    api.run(scenario())
    assert {frozenset({"read"}), frozenset({"read", "write"})} == {outer["ebs.rights"] for outer in seen}
    assert {("ebs.rights",)} == {tuple(outer) for outer in seen}


def test_last_tab_ends_the_loop(api):
    """Nothing is loaded for nobody, and no task is left."""
    counted = Counted(api)

    async def scenario() -> tuple[int, int]:
        before = asyncio.all_tasks()
        one, other = streams(api, PATH, PATH)
        async with one:
            async with other:
                await other.until(EVENT)
            count = len(counted.queries)
            while len(counted.queries) < count + 2:  # the other tab goes on
                await settle()
        await settle()
        assert before == asyncio.all_tasks()
        assert {} == counted.live._followed  # or addresses that nobody asks for again would fill the memory
        count = len(counted.queries)
        await settle()
        return count, len(counted.queries)

    before, after = api.run(scenario())
    assert before == after


def test_stuck_tab_holds_up_nobody_and_is_dropped(api):
    """The others get what is new meanwhile; the stuck one ends as every stream does that nobody reads."""
    Counted(api)
    api.limit_streams(send_timeout_s=0.2)

    async def scenario() -> None:
        stuck = AsgiStream(api.app, PATH, reading=False)
        (quick,) = streams(api, PATH)
        async with stuck, quick:
            await quick.until(EVENT)
            for name in ("first", "second"):
                await api.client.post("/api/objects", json={"name": name})
                await quick.until(name.encode())
            stuck.may_read.set()  # the head of the answer waits for it, too
            await stuck.until(b"second")
            stuck.may_read.clear()
            await api.client.post("/api/objects", json={"name": "third"})
            await stuck.end()
            await quick.until(b"third")
        assert not stuck.complete
        assert b"first" in stuck.body  # as part of the newest state
        assert 1 == stuck.body.count(EVENT)

    api.run(scenario())


def test_quiet_tab_shows_signs_of_life(api):
    """As often as the limits of streams say, whatever the page's interval is; an unchanged page is not sent again."""
    Counted(api, every_s=3_600)
    api.limit_streams(heartbeat_s=0.01)

    async def scenario() -> bytes:
        (tab,) = streams(api, PATH)
        async with tab:
            return await tab.until(b": still here\n\n", 3)

    assert 1 == api.run(scenario()).count(EVENT)


def test_process_that_stops_ends_tabs(api):
    """Those that are open, and those that come late."""
    Counted(api)

    async def scenario() -> None:
        one, late = streams(api, PATH, PATH)
        async with one:
            await one.until(EVENT)
            api.app.state.collaborators.closing.ask()
            await one.end()
        async with late:
            await late.end()
        assert (True, True, 0) == (one.complete, late.complete, late.body.count(EVENT))

    api.run(scenario())


def test_trouble_is_drawn_and_goes_by_itself(api):
    """A view without a store is told to each tab as the page tells it; then the page comes back."""
    Counted(api)
    store = api.view._store

    async def scenario() -> None:
        tabs = streams(api, PATH, PATH)
        async with tabs[0], tabs[1]:
            for tab in tabs:
                await tab.until(b"No objects yet")
            api.view._store = None
            for tab in tabs:
                await tab.until(b"data-trouble")
            api.view._store = store
            for tab in tabs:
                await tab.until(b"No objects yet", 2)

    api.run(scenario())


def test_error_of_a_page_breaks_off_every_tab_and_the_next_starts_again(api):
    """Browsers come again by themselves."""
    counted = Counted(api)

    async def scenario() -> None:
        tabs = streams(api, PATH, PATH)
        counted.failure = ZeroDivisionError("odd")
        results = await asyncio.gather(*map(broken_off, tabs))
        assert ["ZeroDivisionError('odd')"] * 2 == results
        counted.failure = None
        (again,) = streams(api, PATH)
        async with again:
            await again.until(EVENT)

    api.run(scenario())


async def broken_off(tab: AsgiStream) -> str:
    """Return what an answer failed with."""
    try:
        async with tab:
            await tab.end()
    except Exception as error:  # noqa: BLE001  # it goes to the server, which closes the connection
        assert not tab.complete
        return str(error)
    return "no error"


def test_event_of_several_lines():
    """Each line of the data needs its own field."""
    assert b"event: live\ndata: b\ndata: c\n\n" == event("live", "b\nc")


def test_live_part_is_what_a_page_has_in_its_place(api):
    """Drawn by the same templates."""
    api.post(json={"name": "shown"})
    page = api.request("GET", "/objects", headers=BROWSER).text

    async def scenario() -> bytes:
        (tab,) = streams(api, "/live/objects")
        async with tab:
            return await tab.until(EVENT)

    live = [line.removeprefix("data: ") for line in api.run(scenario()).decode().splitlines() if line[:5] == "data:"]
    assert [] == [line for line in live if line not in page]
