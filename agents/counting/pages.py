"""A statistics worker's own pages, on its own port: the windows and ledger rows of the partitions that it owns.

`/partitions/`, `/windows/`, `/ledger/` and `/ledger/<object id>/`, all JSON. Each tells `partitions`, the numbers that
are restored and answer here: with several workers each has a part, the API has the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.rules.counts import (
    TOTAL_SIZE_MS,
    Counts,
    WindowKey,
    add_counts,
    decode_counts,
    decode_window_key,
    describe_counts,
)
from app.rules.ledger import decode_row
from app.rules.ledger_descriptions import describe_object, describe_task
from app.topics import LEDGER_TABLE, WINDOWS_TABLE

if TYPE_CHECKING:
    from app.streaming.application import StreamingApp
    from app.streaming.tables import TransactionalTable

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000


def register_pages(app: StreamingApp) -> None:
    """Add the pages to a worker's web server."""
    ledger: TransactionalTable = app.tables[LEDGER_TABLE]
    windows: TransactionalTable = app.tables[WINDOWS_TABLE]

    @app.page("/partitions/")
    async def partitions_page(web: Any, _request: Any) -> Any:
        return web.json(_about(app, ledger))

    @app.page("/windows/")
    async def windows_page(web: Any, _request: Any) -> Any:
        return web.json({**_about(app, windows), **_describe_windows(windows)})

    @app.page("/ledger/")
    async def ledger_page(web: Any, request: Any) -> Any:
        limit = _limit_of(request)
        if limit is None:
            return web.json({"error": f"limit must be a whole number from 1 to {MAX_LIMIT}"}, status=422)
        return web.json({**_about(app, ledger), "objects": _first_objects(ledger, limit)})

    @app.page("/ledger/{object_id}/")
    async def object_page(web: Any, _request: Any, object_id: str) -> Any:
        stored = ledger.get(object_id.encode())
        if stored is None:
            problem = {"error": f"no ledger row of {object_id} in the partitions of this worker"}
            return web.json({**_about(app, ledger), **problem}, status=404)
        row = decode_row(stored)
        tasks = [describe_task(object_id, row, sequence) for sequence in range(len(row.tasks))]
        return web.json({**_about(app, ledger), **describe_object(object_id, row), "tasks": tasks})


def _about(app: StreamingApp, table: TransactionalTable) -> dict[str, Any]:
    return {"worker": app.worker_name, "partitions": sorted(table.stores)}


def _limit_of(request: Any) -> int | None:
    text = request.query.get("limit", str(DEFAULT_LIMIT))
    return int(text) if text.isdecimal() and 1 <= int(text) <= MAX_LIMIT else None


def _first_objects(ledger: TransactionalTable, limit: int) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = []
    for store in list(ledger.stores.values()):
        for key, stored in store.items():
            if len(objects) == limit:
                return objects
            objects.append(describe_object(key.decode(), decode_row(stored)))
    return objects


def _describe_windows(windows: TransactionalTable) -> dict[str, Any]:
    summed: dict[WindowKey, Counts] = {}
    for store in list(windows.stores.values()):
        for key, stored in store.items():
            add_counts(summed.setdefault(decode_window_key(key), Counts()), decode_counts(stored))
    described = [(key, describe_counts(counts)) for key, counts in sorted(summed.items(), reverse=True)]
    return {
        "totals": {key.kind: figures for key, figures in described if key.size_ms == TOTAL_SIZE_MS},
        "windows": [
            {"start_ms": key.start_ms, "end_ms": key.end_ms, "kind": key.kind, **figures}
            for key, figures in described
            if key.size_ms != TOTAL_SIZE_MS
        ],
    }
