"""The other statistics workers: who lives, which partitions each has, and where its pages are.

They say it themselves, in their heartbeats on `workers`; this worker hears them from its own start on, so it knows all
of them after one heartbeat (2 s).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.kafka.reading import RecordReader
from app.rules.worker_heartbeats import decode_heartbeat, is_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from app.rules.worker_heartbeats import Heartbeat

log = logging.getLogger(__name__)

_ROLE = "statistics"
_RETRY_PAUSE_S = 2.0


class Colleague(NamedTuple):
    """Another worker; `url` is where its pages are, None if it did not say."""

    worker: str
    partitions: list[int]
    url: str | None


class Colleagues:
    """Knows who lives as long as `run` runs."""

    def __init__(self, worker: str, topic: str, clock_ms: Callable[[], int]) -> None:
        self._worker = worker
        self._topic = topic
        self._clock_ms = clock_ms
        self._heard: dict[bytes, tuple[int, Heartbeat]] = {}

    async def run(self, connection: Mapping[str, Any]) -> None:
        """Follow the heartbeats until cancelled; a broker that is away only makes the others unknown."""
        while True:
            try:
                await self._follow(connection)
            except (KafkaError, OSError) as error:
                log.info("the heartbeats of the other workers cannot be read: %r", error)
                await asyncio.sleep(_RETRY_PAUSE_S)

    async def _follow(self, connection: Mapping[str, Any]) -> None:
        consumer = RecordReader(**connection, auto_offset_reset="latest", enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([TopicPartition(self._topic, 0)])
            async for record in consumer:
                self.hear(record.key, record.value, record.timestamp)
        finally:
            await consumer.stop()

    def hear(self, key: bytes | None, value: bytes | None, at_ms: int) -> None:
        """Take in a record of `workers`."""
        heartbeat = None if value is None else decode_heartbeat(value)
        if key is None:
            return
        if heartbeat is None:
            self._heard.pop(key, None)
        elif heartbeat.role == _ROLE and heartbeat.worker != self._worker:
            self._heard[key] = (at_ms, heartbeat)

    def alive(self, asked_host: str) -> list[Colleague]:
        """Return who lives; `asked_host` is the name under which this worker was asked.

        Others on the same machine are reached under it too, where their own host name may mean nothing to who asks.
        """
        now_ms = self._clock_ms()
        living = [heartbeat for at_ms, heartbeat in self._heard.values() if not is_gone(at_ms, now_ms)]
        return [
            Colleague(one.worker, one.partitions, _url_of(one, asked_host))
            for one in sorted(living, key=lambda one: one.worker)
        ]


def _url_of(heartbeat: Heartbeat, asked_host: str) -> str | None:
    if not heartbeat.web_port:
        return None
    host = asked_host if heartbeat.host == socket.gethostname() and asked_host else heartbeat.host
    return f"http://{f'[{host}]' if ':' in host else host}:{heartbeat.web_port}"
