"""Requests at the lowest cost to the machine: a benchmark's client must leave the CPU to what it measures."""

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
    requests = [f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode() for path in paths]
    return await _load(url, requests, "200", connections, duration_s)


async def post_load(
    url: str, path: str, body: bytes, *, media_type: str, status: str, connections: int, duration_s: float
) -> Load:
    """POST one body again and again over keep-alive connections for a while; any other status is an error."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return await _load(url, [head.encode() + body] * connections, status, connections, duration_s)


async def _load(url: str, requests: list[bytes], status: str, connections: int, duration_s: float) -> Load:
    took_ms: list[float] = []
    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            mine = requests[number::connections]
            group.create_task(_client(url, mine, status, took_ms, began_s + duration_s))
    return Load(len(took_ms) / (time.perf_counter() - began_s), sorted(took_ms))


async def _client(url: str, requests: list[bytes], status: str, took_ms: list[float], until_s: float) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        while True:
            for request in requests:
                began_s = time.perf_counter()
                if began_s > until_s:
                    return
                writer.write(request)
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if not head.startswith(f"http/1.1 {status}".encode()):
                    raise AssertionError(f"{request[:80]!r} answers {head.splitlines()[0].decode()}")
                await _skip_body(reader, head)
                took_ms.append((time.perf_counter() - began_s) * 1_000)
    finally:
        writer.close()


async def _skip_body(reader: asyncio.StreamReader, head: bytes) -> None:
    if b"transfer-encoding: chunked" not in head:
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        return
    while size := int(await reader.readline(), 16):
        await reader.readexactly(size + 2)
    await reader.readline()
