"""A statistics worker's own pages, on its own port: the rows of the partitions that it owns.

`/windows/`, `/ledger/` and `/ledger/<object id>/` answer with HTML where the client accepts it, else with JSON. Each
answer names the worker and its partitions. A list ends after `MAX_ROWS` rows, and `is_complete` says whether it has all
rows. The API answers for all workers, page by page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.counting.listing import MAX_ROWS, list_objects, list_windows, show_object, totals_of
from agents.counting.page_html import render_page
from app.names import LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.streaming.application import StreamingApp


def register_pages(app: StreamingApp) -> None:
    """Add the pages to a worker's web server."""

    def answer(web: Any, request: Any, title: str, told: Mapping[str, Any], status: int = 200) -> Any:
        namespace = {"namespace": app.options.namespace} if app.options.namespace else {}
        own = sorted(app.tables[LEDGER_TABLE].stores)
        full = {**namespace, "worker": app.worker_name, "partitions": own, **told}
        headers = {"Vary": "Accept"}
        if "text/html" in request.headers.get("Accept", ""):
            return web.html(render_page(f"{title} of {app.worker_name}", full), status=status, headers=headers)
        return web.json(full, status=status, headers=headers)

    @app.page("/windows/")
    async def windows_page(web: Any, request: Any) -> Any:
        stores = app.tables[WINDOWS_TABLE].stores
        windows, is_complete = list_windows(stores, MAX_ROWS)
        told = {"totals": totals_of(stores), "windows": windows, "is_complete": is_complete}
        return answer(web, request, "windows", told)

    @app.page("/ledger/")
    async def ledger_page(web: Any, request: Any) -> Any:
        objects, is_complete = list_objects(app.tables[LEDGER_TABLE].stores, MAX_ROWS)
        return answer(web, request, "ledger", {"objects": objects, "is_complete": is_complete})

    @app.page("/ledger/{object_id}/")
    async def object_page(web: Any, request: Any, object_id: str) -> Any:
        title = f"object {object_id}"
        ledger, results = app.tables[LEDGER_TABLE].stores, app.tables[RESULTS_TABLE].stores
        told = show_object(ledger, results, object_id, MAX_ROWS)
        if told is not None:
            return answer(web, request, title, told)
        error = f"this worker has no ledger row of {object_id}: ask the other statistics workers, or the API"
        return answer(web, request, title, {"error": error}, 404)
