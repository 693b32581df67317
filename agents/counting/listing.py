"""The lists on a worker's pages: windows newest first, objects by partition and id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.rules.counts import (
    TOTAL_SIZE_MS,
    Counts,
    WindowKey,
    add_counts,
    decode_counts,
    decode_window_key,
    describe_audit,
    describe_counts,
    describe_window,
    encode_window_key,
    total_of,
)
from app.rules.ledger_descriptions import describe_object, describe_task
from app.rules.ledger_rows import decode_row, has_result_row
from app.rules.results import NO_RESULT, decode_result_row, result_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.streaming.stores import TableStore

MAX_ROWS = 200
_MAX_PAGE_BYTES = 2 << 20
"""Of the rows behind a page of objects: decoding them holds the event loop, which the agent shares."""


def totals_of(stores: Mapping[int, TableStore]) -> dict[str, dict[str, Any]]:
    """Return the totals by kind, over this worker's partitions, with their audit."""
    kinds: dict[str, Counts] = {}
    for store in list(stores.values()):
        for key, stored in store.items():
            window = decode_window_key(key)
            if window.size_ms != TOTAL_SIZE_MS:
                break  # they stand in front
            add_counts(kinds.setdefault(window.kind, Counts()), decode_counts(stored))
    return {kind: {**describe_counts(one), "audit": describe_audit(one)} for kind, one in sorted(kinds.items())}


def list_windows(stores: Mapping[int, TableStore], max_rows: int) -> tuple[list[dict[str, Any]], bool]:
    """Return the newest windows, added up over this worker's partitions, and whether these are all."""
    holders: dict[WindowKey, list[TableStore]] = {}
    for store in list(stores.values()):
        for data in store.keys():  # noqa: SIM118  # a store is no dictionary
            key = decode_window_key(data)
            if key.size_ms != TOTAL_SIZE_MS:
                holders.setdefault(key, []).append(store)
    # Only what is shown is decoded: there may be thousands, and the agent shares the event loop.
    items = []
    for key in sorted(holders, key=_order_of)[:max_rows]:
        rows = [store.get(encode_window_key(key)) for store in holders[key]]
        total = total_of(decode_counts(row) for row in rows if row is not None)
        where = {"start_ms": key.start_ms, "end_ms": key.end_ms, "size_s": key.size_ms // 1_000, "kind": key.kind}
        items.append({**where, **describe_window(total)})
    return items, len(holders) <= max_rows


def list_objects(stores: Mapping[int, TableStore], max_rows: int) -> tuple[list[dict[str, Any]], bool]:
    """Return the first objects, and whether these are all."""
    items: list[dict[str, Any]] = []
    size_bytes = 0
    for number, store in sorted(stores.items()):
        for key, stored in store.items():
            if len(items) == max_rows or size_bytes >= _MAX_PAGE_BYTES:
                return items, False
            size_bytes += len(stored)
            items.append({"partition": number, **describe_object(key.decode(), decode_row(stored))})
    return items, True


def show_object(
    ledger: Mapping[int, TableStore], results: Mapping[int, TableStore], object_id: str, max_tasks: int
) -> dict[str, Any] | None:
    """Return an object with its first tasks, and whether these are all tasks; None if this worker does not have it."""
    key = object_id.encode()
    for number, store in list(ledger.items()):
        stored = store.get(key)
        if stored is None or number not in results:
            continue
        row = decode_row(stored)
        tasks = []
        for sequence, task in enumerate(row.tasks[:max_tasks]):
            said = results[number].get(result_key(key, sequence)) if has_result_row(task) else None
            tasks.append(describe_task(object_id, row, sequence, decode_result_row(said) if said else NO_RESULT))
        is_complete = len(row.tasks) <= max_tasks
        return {"partition": number, **describe_object(object_id, row), "tasks": tasks, "is_complete": is_complete}
    return None


def _order_of(key: WindowKey) -> tuple[int, int, str]:
    return -key.end_ms, key.size_ms, key.kind
