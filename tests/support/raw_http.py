"""GET requests at the lowest cost to the machine: a benchmark's client must leave the CPU to what it measures."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple
from urllib.parse import urlsplit


class Load(NamedTuple):
    """What a load came to: answers a second, and each answer's time in ms, sorted."""

    per_s: float
    took_ms: list[float]

    def quantile(self, q: float) -> float:
        """Return the time within which that share of the answers came."""
        return self.took_ms[min(len(self.took_ms) - 1, int(len(self.took_ms) * q))]


async def get_load(url: str, paths: list[str], *, connections: int, duration_s: float) -> Load:
    """GET the paths in turn over keep-alive connections for a while; any answer but 200 is an error."""
    took_ms: list[float] = []
    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(_client(url, paths[number::connections], took_ms, began_s + duration_s))
    return Load(len(took_ms) / (time.perf_counter() - began_s), sorted(took_ms))


async def _client(url: str, paths: list[str], took_ms: list[float], until_s: float) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        while True:
            for path in paths:
                began_s = time.perf_counter()
                if began_s > until_s:
                    return
                writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise AssertionError(f"{path} answers {head.splitlines()[0].decode()}")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.split(b":")[1]))
                took_ms.append((time.perf_counter() - began_s) * 1_000)
    finally:
        writer.close()
