"""A statistics worker's own pages, on its own port: the windows and ledger rows of the partitions that it owns.

`/partitions/`, `/windows/`, `/ledger/` and `/ledger/<object id>/`: JSON, or HTML for who accepts that. Each tells the
numbers that are restored and answer here (`partitions`), and which worker has the others, with the address of the same
page there. `?limit=` and `?cursor=` page through big tables and an object's tasks; `next` is where to go on.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

import aiohttp

from agents.counting.colleagues import Colleague, Colleagues
from agents.counting.listing import ItemPage, list_objects, list_windows, show_object, totals_of
from agents.counting.page_html import render_page
from app.names import LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from app.streaming.application import StreamingApp
    from app.streaming.tables import TableStore

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
_MAX_DIGITS = 9
_WRONG_LIMIT = f"limit must be a whole number from 1 to {MAX_LIMIT}"
_WRONG_CURSOR = "the cursor must be one that `next` had"
_ASK_TIMEOUT = aiohttp.ClientTimeout(total=2.0)


def register_pages(app: StreamingApp, workers: str) -> None:
    """Add the pages to a worker's web server; `workers` is the topic of heartbeats."""
    colleagues = Colleagues(app.worker_name, workers, lambda: time.time_ns() // 1_000_000)
    pages = WorkerPages(app, colleagues)

    async def follow_colleagues() -> None:
        await colleagues.run(app.options.connection)

    app.task(follow_colleagues)

    @app.page("/partitions/")
    async def partitions_page(web: Any, request: Any) -> Any:
        return pages.answer(PageRequest(web, request), "partitions", {})

    @app.page("/windows/")
    async def windows_page(web: Any, request: Any) -> Any:
        stores = app.tables[WINDOWS_TABLE].stores
        return pages.listed(PageRequest(web, request), "windows", list_windows, stores, {"totals": totals_of(stores)})

    @app.page("/ledger/")
    async def ledger_page(web: Any, request: Any) -> Any:
        return pages.listed(PageRequest(web, request), "objects", list_objects, app.tables[LEDGER_TABLE].stores, {})

    @app.page("/ledger/{object_id}/")
    async def object_page(web: Any, request: Any, object_id: str) -> Any:
        return await pages.row(PageRequest(web, request), object_id)


class PageRequest(NamedTuple):
    """A request, and Faust's way to answer it."""

    web: Any
    request: Any

    @property
    def host(self) -> str:
        """The name under which this worker was asked."""
        return str(self.request.url.host or "")


class WorkerPages:
    """Answers what is asked of one worker."""

    def __init__(self, app: StreamingApp, colleagues: Colleagues) -> None:
        self._app = app
        self._colleagues = colleagues

    def answer(
        self, asked: PageRequest, title: str, told: Mapping[str, Any], status: int = 200, location: str | None = None
    ) -> Any:
        """Answer with JSON or HTML, and with which worker has what."""
        full = {**self._about(asked), **told}
        headers = {"Vary": "Accept", **({} if location is None else {"Location": location})}
        if "text/html" in asked.request.headers.get("Accept", ""):
            return asked.web.html(
                render_page(f"{title} of {self._app.worker_name}", full), status=status, headers=headers
            )
        return asked.web.json(full, status=status, headers=headers)

    def listed(
        self,
        asked: PageRequest,
        name: str,
        list_page: Callable[[Mapping[int, TableStore], str, int], ItemPage],
        stores: Mapping[int, TableStore],
        more: Mapping[str, Any],
    ) -> Any:
        """Answer with a page of a list under a name."""
        limit = _limit_of(asked)
        if limit is None:
            return self.answer(asked, name, {"error": _WRONG_LIMIT}, 422)
        try:
            page = list_page(stores, asked.request.query.get("cursor", ""), limit)
        except ValueError:
            return self.answer(asked, name, {"error": _WRONG_CURSOR}, 422)
        return self.answer(asked, name, {**more, name: page.items, "next": _next_of(asked, limit, page.next_cursor)})

    async def row(self, asked: PageRequest, object_id: str) -> Any:
        """Answer with one object; where another worker has it, send there (307); 404 only if nobody has it."""
        title = f"object {object_id}"
        limit, first = _limit_of(asked), _number_of(asked.request.query.get("cursor", "0"))
        if limit is None or first is None:
            return self.answer(asked, title, {"error": _WRONG_LIMIT if limit is None else _WRONG_CURSOR}, 422)
        stores = self._app.tables[LEDGER_TABLE].stores
        found = show_object(stores, self._app.tables[RESULTS_TABLE].stores, object_id, first, limit)
        if found is not None:
            told, next_cursor = found
            return self.answer(asked, title, {**told, "next": _next_of(asked, limit, next_cursor)})
        if "local" in asked.request.query:
            return self.answer(asked, title, {"error": f"{title} is not here"}, 404)
        seen = set(stores)
        path = f"/ledger/{quote(object_id, safe='')}/"
        others = self._colleagues.alive(asked.host)
        answers = await asyncio.gather(*(self._ask(one, path) for one in others))
        for one, answer in zip(others, answers, strict=True):
            if answer is not None and answer[0] == HTTPStatus.OK:
                told = {"error": f"{title} is at worker {one.worker}", "url": f"{one.url}{path}"}
                return self.answer(asked, title, told, 307, told["url"])
            seen.update(answer[1] if answer is not None else ())
        missing = sorted(set(range(self._app.conf.topic_partitions)) - seen)
        if missing:
            numbers = ", ".join(map(str, missing))
            why = f"nobody answers for partitions {numbers} (being restored, moved, or their worker is silent)"
            return self.answer(asked, title, {"error": f"{title} is not here, and {why}: ask again"}, 503)
        return self.answer(asked, title, {"error": f"there is no ledger row of {object_id}, at no worker"}, 404)

    async def _ask(self, colleague: Colleague, path: str) -> tuple[int, list[int]] | None:
        """Ask a worker for a row; returns the status and the partitions that answered, None if it does not."""
        if colleague.url is None:
            return None
        headers = {"Accept": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=_ASK_TIMEOUT, headers=headers) as session,
                session.get(f"{colleague.url}{path}?local=1", allow_redirects=False) as response,
            ):
                return response.status, list((await response.json())["partitions"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            return None

    def _about(self, asked: PageRequest) -> dict[str, Any]:
        own = sorted(self._app.tables[LEDGER_TABLE].stores)
        others = self._colleagues.alive(asked.host)
        known = {*own, *(number for one in others for number in one.partitions)}
        namespace = self._app.options.namespace
        return {
            **({"namespace": namespace} if namespace else {}),
            "worker": self._app.worker_name,
            "partitions": own,
            "others": [
                {
                    "worker": one.worker,
                    "partitions": one.partitions,
                    "url": None if one.url is None else f"{one.url}{asked.request.path}",
                }
                for one in others
            ],
            "missing_partitions": sorted(set(range(self._app.conf.topic_partitions)) - known),
        }


def _number_of(text: str) -> int | None:
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else None


def _limit_of(asked: PageRequest) -> int | None:
    limit = _number_of(asked.request.query.get("limit", str(DEFAULT_LIMIT)))
    return limit if limit is not None and 1 <= limit <= MAX_LIMIT else None


def _next_of(asked: PageRequest, limit: int, cursor: str | None) -> str | None:
    return None if cursor is None else f"{asked.request.path}?{urlencode({'limit': limit, 'cursor': cursor})}"
