"""Keeps `ebs-topics` while a process runs: without it none could start, as no topic would be known as this system's.

Workers and `ebs up` have read at their start which topics are this system's, with their ids. They write it down again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from app.errors import BrokerError
from app.kafka.errors import KafkaError
from app.kafka.topic_metadata import read_topics
from app.telemetry.quiet_log import Alike
from app.topics.making import ensure_topics
from app.topics.registry import CLIENT_ID, REQUEST_TIMEOUT_MS, TopicRegistry

if TYPE_CHECKING:
    from app.kafka.cluster import Cluster
    from app.kafka.types import AIOKafkaClient
    from app.kafka.waiting import Say
    from app.topics.catalogue import TopicSpec
    from app.topics.ownership import TopicClaim

log = logging.getLogger(__name__)

_PERIOD_S = 5.0
_LOOKS_TO_BE_SURE = 2
"""A broker that has just started knows no topic for a moment."""
_SILENCE_S = 60.0


class RegistryKeeper:
    """Looks whether the topic of `spec` is the one that it was when `run` began."""

    def __init__(
        self, cluster: Cluster, spec: TopicSpec, *, say: Say = log.warning, period_s: float = _PERIOD_S
    ) -> None:
        self._cluster = cluster.within(REQUEST_TIMEOUT_MS)
        self._spec = spec
        self._registry = TopicRegistry(spec.name, self._cluster)
        self._say = say
        self._period_s = period_s
        self._topic_id = ""
        self._claims: dict[str, TopicClaim] = {}
        self._missing_count = 0
        self._is_lost = False
        self._alike = Alike(_SILENCE_S)

    async def run(self) -> None:
        """Look until cancelled; never raises anything else: the work does not depend on it."""
        while True:
            try:
                async with self._cluster.client(CLIENT_ID) as client:
                    while True:
                        await self._look(client)
                        await asyncio.sleep(self._period_s)
            except (KafkaError, BrokerError, OSError, TimeoutError) as error:
                self._tell(error)
            await asyncio.sleep(self._period_s)

    async def _look(self, client: AIOKafkaClient) -> None:
        """Look once, and write the claims again if the topic is gone or another one."""
        found = (await read_topics(client, [self._spec.name])).topics[self._spec.name]
        topic_id = found.topic_id if found.partition_count else ""
        self._missing_count = 0 if topic_id else self._missing_count + 1
        if not self._claims and topic_id:
            self._claims, self._topic_id = await self._registry.read(), topic_id
        elif (topic_id and topic_id != self._topic_id) or self._missing_count >= _LOOKS_TO_BE_SURE:
            await self._restore()

    async def _restore(self) -> None:
        self._is_lost = True
        await ensure_topics(self._cluster, [self._spec])
        told = await self._registry.read()
        topic_ids = await self._registry.topic_ids([self._spec.name, *self._claims])
        lost = {
            name: claim
            for name, claim in self._claims.items()
            if name not in told and topic_ids.get(name) == claim.topic_id
        }
        for adopted in (False, True):
            named = {name: claim.topic_id for name, claim in lost.items() if claim.adopted == adopted}
            await self._registry.write(named, adopted=adopted)
        self._topic_id, self._missing_count = topic_ids.get(self._spec.name, ""), 0
        self._is_lost = False
        self._say(
            f"topic {self._spec.name} was deleted: it is there again, and names {len(lost)} topics again that are this "
            "system's"
        )

    def _tell(self, error: Exception) -> None:
        if self._is_lost and self._alike.untold_before(self._spec.name, time.monotonic()) is not None:
            self._say(
                f"topic {self._spec.name} was deleted, so no process of this system can start, and this one cannot "
                f"make it again ({error}): run `ebs topics --adopt` as a user who may"
            )
