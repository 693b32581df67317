"""A proxy between clients and a broker that knows the frames of Kafka's protocol and harms them by rules.

The broker has a listener that is reached through the proxy only (`proxied_kafka`), so every client that bootstraps at
`proxy.bootstrap` stays behind it, and the broker's own traffic and the test's never pass it.
"""

from __future__ import annotations

import asyncio
import random
import struct
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ebs.local.ports import LOOPBACK, free_port

from ebs.local.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

API_KEYS = {
    "Produce": 0, "Fetch": 1, "Metadata": 3, "OffsetFetch": 9, "FindCoordinator": 10, "JoinGroup": 11, "Heartbeat": 12,
    "SyncGroup": 14, "InitProducerId": 22, "AddPartitionsToTxn": 24, "AddOffsetsToTxn": 25, "EndTxn": 26,
    "TxnOffsetCommit": 28,
}  # fmt: skip
"""Source: https://kafka.apache.org/protocol#protocol_api_keys."""
_SIZE = struct.Struct(">i")
_REQUEST_HEAD = struct.Struct(">hhi")
_LATE_ANSWER_S = 5.0
_CLOSING_S = 10.0


class Harm(Enum):
    """What happens to a request."""

    LATE = "late"
    """The client's connection breaks at once, the broker gets the request after the delay: it lay in a queue."""
    LOST_ANSWER = "lost answer"
    """The broker does what it is asked to; instead of the answer the client sees its connection break."""
    SLOW = "slow"
    """The request, and all behind it on its connection, waits for the delay."""


@dataclass(frozen=True)
class Rule:
    """Harms a share (0 to 1) of the requests of one api; the delay is drawn evenly between its two ends (s)."""

    api: str
    harm: Harm
    share: float
    delay_s: tuple[float, float] = (0.075, 0.25)


class KafkaProxy:
    """Forwards frames until a rule says otherwise; counts requests by api key, and those `harmed` by api and harm.

    `rules`, `deaf` and `mute` may be set at any time, from any thread. While `deaf`, what clients say is not forwarded;
    while `mute`, what the broker answers is not: one way of the network is cut, connections stay open.
    """

    def __init__(self, upstream_port: int, port: int, seed: int = 1) -> None:
        self.port = port
        self.rules: tuple[Rule, ...] = ()
        self.deaf = False
        self.mute = False
        self.harmed: Counter[tuple[str, Harm]] = Counter()
        self.asked: Counter[int] = Counter()
        self._upstream_port = upstream_port
        self._chance = random.Random(seed)
        self._is_cut = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka-proxy", daemon=True)
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def bootstrap(self) -> str:
        """Return HOST:PORT for clients."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Listen, in a thread of its own: neither a test's loop nor its blocking calls are in the way."""
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        """Break all connections and listen no longer."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Break all connections, and every new one at once, until `mend`."""
        self._is_cut = True
        self._loop.call_soon_threadsafe(self._break_links)

    def mend(self) -> None:
        """Harm nothing from now on; what is late still comes."""
        self.rules, self.deaf, self.mute, self._is_cut = (), False, False, False

    def choose(self, api_key: int) -> Rule | None:
        """Return the rule that harms this request, if one does."""
        self.asked[api_key] += 1
        for rule in self.rules:
            if API_KEYS[rule.api] == api_key and self._chance.random() < rule.share:
                self.harmed[rule.api, rule.harm] += 1
                return rule
        return None

    def delay_s(self, rule: Rule) -> float:
        """Return how long a harmed request waits."""
        return self._chance.uniform(*rule.delay_s)

    def _run(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_CLOSING_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._break_links()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _break_links(self) -> None:
        for link in list(self._links):
            link.break_off()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            upstream = await asyncio.open_connection(LOOPBACK, self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self, (reader, writer), upstream)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection of a client and the one to the broker behind it."""

    def __init__(self, proxy: KafkaProxy, client: _Streams, broker: _Streams) -> None:
        self._proxy = proxy
        self._client_reader, self._client_writer = client
        self._broker_reader, self._broker_writer = broker
        self._unanswered: set[int] = set()
        self._late: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Forward both ways until one side is gone, then let what is late arrive."""
        ways = [asyncio.create_task(self._ask()), asyncio.create_task(self._answer())]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._client_writer.transport.abort()
        if self._late is not None:
            with suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                await asyncio.wait_for(self._late, _LATE_ANSWER_S)
        self._broker_writer.transport.abort()

    def break_off(self) -> None:
        """Break the client's connection; `run` ends by it."""
        self._client_writer.transport.abort()

    async def _ask(self) -> None:
        while True:
            frame = await _read_frame(self._client_reader)
            while self._proxy.deaf:  # noqa: ASYNC110  # set from another thread
                await asyncio.sleep(0.01)
            api_key, _version, correlation_id = _REQUEST_HEAD.unpack_from(frame)
            rule = self._proxy.choose(api_key)
            if rule is None:
                pass
            elif rule.harm is Harm.LATE:
                self._late = asyncio.create_task(self._forward_late(frame, self._proxy.delay_s(rule)))
                return
            elif rule.harm is Harm.LOST_ANSWER:
                self._unanswered.add(correlation_id)
            else:
                await asyncio.sleep(self._proxy.delay_s(rule))
            _write_frame(self._broker_writer, frame)
            await self._broker_writer.drain()

    async def _answer(self) -> None:
        while True:
            frame = await _read_frame(self._broker_reader)
            (correlation_id,) = _SIZE.unpack_from(frame)
            if correlation_id in self._unanswered:
                return
            while self._proxy.mute:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)
            _write_frame(self._client_writer, frame)
            await self._client_writer.drain()

    async def _forward_late(self, frame: bytes, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        _write_frame(self._broker_writer, frame)
        # Its answer says that it was worked: a connection that closes before could take the request with it.
        await _read_frame(self._broker_reader)


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
    return await reader.readexactly(size)


def _write_frame(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.writelines((_SIZE.pack(len(frame)), frame))


@contextmanager
def proxied_kafka(
    directory: Path, *, transaction_version: int = 2, prepare: Callable[[EmbeddedKafka], None] = lambda _broker: None
) -> Iterator[tuple[EmbeddedKafka, KafkaProxy]]:
    """Run a broker with a second listener behind a proxy; `broker.bootstrap` is the way around it.

    `prepare` is called when the broker runs, before the proxy does. `transaction_version` is what the cluster has
    agreed on (KIP-890).
    """
    port, inner_port, controller_port, proxy_port = (free_port() for _ in range(4))
    names = {"PLAINTEXT": port, "PROXIED": inner_port}
    listeners = ",".join(f"{name}://{LOOPBACK}:{number}" for name, number in names.items())
    lines = [
        f"listeners={listeners},CONTROLLER://{LOOPBACK}:{controller_port}",
        f"controller.quorum.voters=1@{LOOPBACK}:{controller_port}",
        f"advertised.listeners=PLAINTEXT://{LOOPBACK}:{port},PROXIED://{LOOPBACK}:{proxy_port}",
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name=PLAINTEXT",
    ]
    broker = EmbeddedKafka(
        directory,
        port=port,
        extra_properties="\n".join(lines) + "\n",
        format_options=["--feature", f"transaction.version={transaction_version}"],
    )
    asyncio.run(broker.start())
    proxy = KafkaProxy(inner_port, proxy_port)
    try:
        prepare(broker)
        proxy.start()
        yield broker, proxy
        proxy.stop()
    finally:
        asyncio.run(broker.stop())
