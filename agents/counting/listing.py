"""What the pages show of a worker's tables, a page at a time: windows newest first, objects by partition and id."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

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

    from app.streaming.tables import TableStore

_MAX_PAGE_BYTES = 2 << 20
"""Of the rows behind a page of objects: decoding them holds the event loop, which the agent shares."""


class ItemPage(NamedTuple):
    """A part of a list, and the cursor of the next part, None at the end."""

    items: list[dict[str, Any]]
    next_cursor: str | None


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


def list_windows(stores: Mapping[int, TableStore], cursor: str, limit: int) -> ItemPage:
    """Return windows behind a cursor (empty: from the newest on). Raises `ValueError` for a cursor that is none."""
    after = _order_of(decode_window_key(bytes.fromhex(cursor))) if cursor else None
    holders: dict[WindowKey, list[TableStore]] = {}
    for store in list(stores.values()):
        for data in store.keys():  # noqa: SIM118  # a store is no dictionary
            key = decode_window_key(data)
            if key.size_ms != TOTAL_SIZE_MS and (after is None or _order_of(key) > after):
                holders.setdefault(key, []).append(store)
    # Only what is shown is decoded: there may be thousands, and the agent shares the event loop.
    ordered = sorted(holders, key=_order_of)
    shown = ordered[:limit]
    items = []
    for key in shown:
        rows = [store.get(encode_window_key(key)) for store in holders[key]]
        total = total_of(decode_counts(row) for row in rows if row is not None)
        where = {"start_ms": key.start_ms, "end_ms": key.end_ms, "size_s": key.size_ms // 1_000, "kind": key.kind}
        items.append({**where, **describe_window(total)})
    return ItemPage(items, encode_window_key(shown[-1]).hex() if len(ordered) > limit else None)


def list_objects(stores: Mapping[int, TableStore], cursor: str, limit: int) -> ItemPage:
    """Return objects from a cursor on (empty: from the first). Raises `ValueError` for a cursor that is none."""
    number_text, _, key_text = cursor.partition(".")
    first, from_key = (int(number_text), bytes.fromhex(key_text)) if cursor else (-1, b"")
    items: list[dict[str, Any]] = []
    size_bytes = 0
    for number in sorted(stores):
        if number < first:
            continue
        rows = stores[number].items((from_key if number == first else None) or None)
        for key, stored in islice(rows, limit + 1 - len(items)):
            if len(items) == limit or size_bytes >= _MAX_PAGE_BYTES:
                return ItemPage(items, f"{number}.{key.hex()}")
            size_bytes += len(stored)
            items.append({"partition": number, **describe_object(key.decode(), decode_row(stored))})
    return ItemPage(items, None)


def show_object(
    ledger: Mapping[int, TableStore], results: Mapping[int, TableStore], object_id: str, first: int, limit: int
) -> tuple[dict[str, Any], str | None] | None:
    """Return an object with `limit` tasks from the first one on, and the cursor of the next ones (None at the end).

    None if it is in none of the partitions.
    """
    key = object_id.encode()
    for number, store in list(ledger.items()):
        stored = store.get(key)
        if stored is None or number not in results:
            continue
        row = decode_row(stored)
        tasks = []
        for sequence in range(first, min(first + limit, len(row.tasks))):
            said = results[number].get(result_key(key, sequence)) if has_result_row(row.tasks[sequence]) else None
            result = decode_result_row(said) if said else NO_RESULT
            tasks.append(describe_task(object_id, row, sequence, result))
        next_cursor = str(first + limit) if first + limit < len(row.tasks) else None
        return {"partition": number, **describe_object(object_id, row), "tasks": tasks}, next_cursor
    return None


def _order_of(key: WindowKey) -> tuple[int, int, str]:
    return -key.end_ms, key.size_ms, key.kind
