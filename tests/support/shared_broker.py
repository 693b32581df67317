"""One broker for each process of pytest: a test gets it without topics, groups and transactions of an earlier test."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaClient
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import CoordinationType
from aiokafka.errors import GroupIdNotFound, KafkaError, NonEmptyGroup, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.protocol.group import LeaveGroupRequest
from api_process import PATIENCE_S

from app.kafka.abandoned_transactions import _ask, _end, _members
from app.kafka.cluster import Cluster
from app.kafka.protocol import ListTransactions
from app.settings.settings import load
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics
from ebs.local.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

_POLL_S = 0.02
_NOT_ENDED = ["Ongoing", "PrepareCommit", "PrepareAbort"]
_NOT_NOW = (NonEmptyGroup.errno, GroupIdNotFound.errno)
"""A member has come, or somebody else was faster: the next look tells."""


class SharedBroker:
    """Lent to one test, or one module's tests, at a time; they may kill, freeze and start it as they like."""

    def __init__(self, directory: Path) -> None:
        self.kafka = EmbeddedKafka(directory, port=0)
        self._is_lent = False

    @contextmanager
    def lent(self, partitions: int | None = None) -> Iterator[EmbeddedKafka]:
        """Run the broker, empty, or with all topics of so many partitions."""
        assert not self._is_lent, "somebody has the shared broker: clearing it would harm them"
        self._is_lent = True
        try:
            asyncio.run(self._prepare(partitions))
            yield self.kafka
        finally:
            self._is_lent = False

    def stop(self) -> None:
        """Stop it, unless somebody has it; who gets it next starts it again."""
        if not self._is_lent and self.kafka.pid is not None:
            asyncio.run(self.kafka.stop())

    async def _prepare(self, partitions: int | None) -> None:
        self.kafka.resume()
        if self.kafka.pid is None:
            await self.kafka.start()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await _is_cleared(self.kafka.bootstrap):  # noqa: ASYNC110  # another process
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:  # what a failed test has done to it is not the next one's business
            self.kafka.kill()
            shutil.rmtree(self.kafka.directory)
            await self.kafka.start()
        if partitions is not None:
            specs = catalogue(load(broker=self.kafka.bootstrap, partitions=partitions))
            await ensure_topics(Cluster(self.kafka.bootstrap), specs, timeout_s=PATIENCE_S)


async def _is_cleared(bootstrap: str) -> bool:
    try:
        await _clear(bootstrap)
    except KafkaError as error:
        if not error.retriable:
            raise
        return False  # it has just started, and still loads
    return True


async def _clear(bootstrap: str) -> None:
    """Delete all groups and topics, and end the open transactions of processes that are gone."""
    async with _clients(bootstrap) as (client, admin):
        while groups := [group_id for group_id, *_ in await admin.list_consumer_groups()]:
            await _end_transactions(client)  # their offsets keep a group
            for group_id in groups:
                await _delete_group(client, group_id)
        await _end_transactions(client)
        while topics := [one["topic"] for one in await admin.describe_topics() if not one["topic"].startswith("__")]:
            await admin.delete_topics(topics)
            await asyncio.sleep(_POLL_S)


async def _end_transactions(client: AIOKafkaClient) -> None:
    (node,) = client.cluster.brokers()
    while not_ended := (await _ask(client, node.nodeId, ListTransactions(_NOT_ENDED, []))).transaction_states:
        for transactional_id, _producer_id, state, *_ in not_ended:
            if state == _NOT_ENDED[0]:
                await _end(client, transactional_id)
        await asyncio.sleep(_POLL_S)


async def _delete_group(client: AIOKafkaClient, group_id: str) -> None:
    node_id = await client.coordinator_lookup(CoordinationType.GROUP, group_id)
    for member_id, *_ in await _members(client, group_id):  # killed: their sessions would last for up to a minute
        await _ask(client, node_id, LeaveGroupRequest(group_id, member_id))
    ((_, code),) = (await _ask(client, node_id, DeleteGroupsRequest([group_id]))).results
    if code and code not in _NOT_NOW:
        raise for_code(code)(group_id)


@asynccontextmanager
async def _clients(bootstrap: str) -> AsyncIterator[tuple[AIOKafkaClient, AIOKafkaAdminClient]]:
    client, admin = AIOKafkaClient(bootstrap_servers=bootstrap), AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await client.bootstrap()
        await admin.start()
        yield client, admin
    finally:
        await admin.close()
        await client.close()
