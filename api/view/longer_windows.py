"""Windows of a minute and an hour: those that are merged already, plus the shorter windows that will be merged.

Windows are kept at 10 s first and merged later (`app.rules.window_retention`), so the newest ones are added up here.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING

from api.view.rows import window_key_of, window_prefix
from app.rules.counts import (
    HOUR_MS,
    MINUTE_MS,
    WINDOW_MS,
    Counts,
    WindowKey,
    add_counts,
    decode_counts,
    decode_window_key,
    window_start_ms,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.view.store import ViewStore

SIZES_MS = (WINDOW_MS, MINUTE_MS, HOUR_MS)
_ROWS_A_TURN = 500
"""About 5 ms: longer would make other requests wait."""


async def longer_windows(
    opened: Callable[[], ViewStore], size_ms: int, kind: str | None, limit: int
) -> list[tuple[WindowKey, Counts]]:
    """Return at most `limit` windows of a size, of one kind or of all, newest first.

    The store may move on between two turns: a window that is merged just then is missing, or in twice, in this answer.
    """
    found: dict[tuple[int, str], Counts] = {}
    for shorter_ms in SIZES_MS:
        if shorter_ms <= size_ms:
            await _add_up(opened, shorter_ms, found, size_ms=size_ms, kind=kind, limit=limit)
    newest = sorted(found, reverse=True)[:limit]
    return [(WindowKey(size_ms, start_ms, of_kind), found[start_ms, of_kind]) for start_ms, of_kind in newest]


async def _add_up(
    opened: Callable[[], ViewStore],
    shorter_ms: int,
    found: dict[tuple[int, str], Counts],
    *,
    size_ms: int,
    kind: str | None,
    limit: int,
) -> None:
    """Add the windows of one size to the longer windows that contain them, for the newest `limit` of these.

    Whatever is among the newest of all sizes together is among the newest of each size that has it.
    """
    prefix = window_prefix(shorter_ms)
    before = b""
    own: set[tuple[int, str]] = set()
    oldest_ms = 0
    while True:
        rows = list(islice(opened().newest_first(prefix, before), _ROWS_A_TURN))
        for key, value in rows:
            window = decode_window_key(window_key_of(key))
            if kind not in {None, window.kind}:
                continue
            place = (window_start_ms(window.start_ms, size_ms), window.kind)
            if len(own) >= limit and place[0] < oldest_ms:
                return
            own.add(place)
            oldest_ms = place[0]
            add_counts(found.setdefault(place, Counts()), decode_counts(value))
        if len(rows) < _ROWS_A_TURN:
            return
        before = rows[-1][0]
        await asyncio.sleep(0)
