"""Tabs of the dashboard without a browser: each reads the live part of a page, as `live.js` does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_CHUNK_BYTES = 1 << 18
_EVENT = b"event: live\n"


class Tab:
    """What one tab has received so far."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.events_count = 0
        self.received_bytes = 0


@asynccontextmanager
async def open_tabs(url: str, paths: Sequence[str]) -> AsyncIterator[list[Tab]]:
    """Keep a tab open for each path (`/live/objects`) while the block runs; a tab that ends by itself is an error."""
    tabs = [Tab(path) for path in paths]
    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(_read(url, tab)) for tab in tabs]
        yield tabs
        for one in reading:
            one.cancel()


async def _read(url: str, tab: Tab) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        request = f"GET {tab.path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n"
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise AssertionError(f"{tab.path} answers {head.decode()}")
        while data := await reader.read(_CHUNK_BYTES):
            tab.events_count += data.count(_EVENT)
            tab.received_bytes += len(data)
        raise AssertionError(f"{tab.path} ended by itself")
    finally:
        writer.close()
