"""Whether every process of a local system can do its work: what `ebs up` and `ebs demo` wait for."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx

from ebs.cli.plan import API_ROLE
from ebs.client.loopback import takes_proxies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ebs.cli.local_system import LocalSystem
    from ebs.local.supervisor import Child

_POLL_S = 0.2
_CALL_TIMEOUT_S = 5.0
_SAY_EVERY_S = 10.0


class Readiness:
    """Asks the probe `/readyz` of each process; `unready` has the reason of each one that is not ready, by its name."""

    def __init__(
        self,
        urls: Mapping[str, str],
        children: Mapping[str, Child],
        *,
        say: Callable[[str], None],
        transport: httpx.AsyncBaseTransport | None = None,
        poll_s: float = _POLL_S,
        say_every_s: float = _SAY_EVERY_S,
    ) -> None:
        self.unready: dict[str, str] = dict.fromkeys(urls, "it has not been asked yet")
        self._urls = urls
        self._children = children
        self._say = say
        self._transport = transport
        self._poll_s = poll_s
        self._say_every_s = say_every_s

    async def wait(self) -> None:
        """Return when all processes are ready at the same time; says now and then which ones are not, and why."""
        clock = asyncio.get_running_loop().time
        said_at_s = clock()
        async with AsyncExitStack() as stack:
            clients = {name: await stack.enter_async_context(self._client(url)) for name, url in self._urls.items()}
            while True:
                reasons = await asyncio.gather(*(self._reason(name, client) for name, client in clients.items()))
                self.unready = {name: reason for name, reason in zip(clients, reasons, strict=True) if reason}
                if not self.unready:
                    return
                if clock() - said_at_s >= self._say_every_s:
                    self._say(f"not ready yet: {self}")
                    said_at_s = clock()
                await asyncio.sleep(self._poll_s)

    def __str__(self) -> str:
        return "; ".join(f"{name}: {reason}" for name, reason in self.unready.items())

    def _client(self, url: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=url, transport=self._transport, timeout=_CALL_TIMEOUT_S, trust_env=takes_proxies(url)
        )

    async def _reason(self, name: str, client: httpx.AsyncClient) -> str:
        """Return why a process is not ready; empty: it is."""
        child = self._children[name]
        ends = child.start_count - (child.pid is not None)
        ended = f" (last time {child.last_end}; ends so far: {ends})" if child.last_end else ""
        if child.pid is None:
            return f"it does not run{ended}"
        try:
            answer = await client.get("/readyz")
        except httpx.TransportError:
            return f"it does not answer at {client.base_url}{ended}"
        return "" if answer.is_success else f"{_detail_of(answer)}{ended}"


def readiness_of(system: LocalSystem, say: Callable[[str], None]) -> Readiness:
    """Return the readiness of a system that has started its processes."""
    assert system.supervisor is not None
    return Readiness({API_ROLE: system.plan.api_url, **system.pages}, system.supervisor.children, say=say)


def _detail_of(answer: httpx.Response) -> str:
    try:
        reasons = answer.json()["reasons"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"it answers {answer.status_code}"
    return ", ".join(map(str, reasons))
