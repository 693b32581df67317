"""Looks whether the cluster still is what a worker began with: its topics, its group, the brokers that a commit needs.

A topic that is deleted and made again keeps its name, so nothing else would notice: the group assigns nothing, or
offsets count in another log. Here the topics' ids tell, and the worker ends: the next one takes the topics as they are.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError, for_code

from app.errors import InputsChanged
from app.kafka.groups import unowned_numbers
from app.kafka.protocol import DescribeGroups
from app.kafka.topic_metadata import DescribeTopics, read_topics

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from aiokafka.client import AIOKafkaClient

    from app.kafka.cluster import Cluster
    from app.kafka.topic_metadata import TopicMetadata
    from app.streaming.ownership import Ownership

_LOOKS_TO_BE_SURE = 2
"""A broker that has just started, or a topic's change that has not reached all of them, is wrong for a moment."""
_LOOKS_TO_GIVE_UP = 4
"""Without a partition that nobody has: by then the group had every chance to assign it."""


class ClusterIncomplete(Exception):
    """Some of what a commit needs does not answer; `str()` of one says what."""


class Survey:
    """`unowned` are the partition numbers that the group's members leave to nobody, as of the last look.

    `look` takes one; its `patience_s` is the caller's to keep.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: Iterable[str],
        ownership: Ownership,
        *,
        transactional_id: str,
        patience_s: float,
        stands_aside: Callable[[], bool],
        absent: Callable[[], Container[str]] = tuple,
    ) -> None:
        """`absent` returns the topics that the worker began without: it begins anew when one of them is made."""
        self.unowned: tuple[int, ...] = ()
        self._cluster = cluster
        self._topics = tuple(topics)
        self._ownership = ownership
        self._transactional_id = transactional_id
        self._patience_s = patience_s
        self._stands_aside = stands_aside
        self._absent = absent
        self._client: AIOKafkaClient | None = None
        self._known: dict[str, TopicMetadata] = {}
        self._change, self._change_count = "", 0
        self._unowned_count = 0

    async def look(self) -> None:
        """Look once.

        Raises `InputsChanged` if the worker has to begin anew, `ClusterIncomplete` or aiokafka's errors while the
        cluster does not answer as a whole.
        """
        client = self._client = self._client or await self._connect()
        # Inputs may be added to those that the worker began with.
        found = (await read_topics(client, dict.fromkeys((*self._topics, *self._ownership.input_topics)))).topics
        self._compare(found)
        await self._look_at_group(client)
        await self._look_at_brokers(client, found)

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connect(self) -> AIOKafkaClient:
        client = self._cluster.within(self._patience_s * 1_000).new_client("ebs-survey")
        try:
            await client.bootstrap()
        except BaseException:
            await client.close()
            raise
        return client

    def _compare(self, found: Mapping[str, TopicMetadata]) -> None:
        """Hold the topics against those of the first look, and of the claims."""
        for name, topic in found.items():
            self._known.setdefault(name, topic)
        change = next(filter(None, (self._change_of(name, one) for name, one in found.items())), "")
        self._change_count = self._change_count + 1 if change and change == self._change else 1
        self._change = change
        if change and self._change_count >= _LOOKS_TO_BE_SURE:
            raise InputsChanged(change)

    def _change_of(self, name: str, now: TopicMetadata) -> str:
        before = self._known[name]
        is_absent = name in self._absent()
        if now.missing:
            return "" if is_absent else f"topic {name} is gone"
        if is_absent and now.partition_count:
            return f"topic {name} exists now"
        if not (now.partition_count and before.partition_count):
            return ""  # the broker does not say, as for somebody who may not Describe it
        if now.topic_id != self._ownership.topic_ids.get(name, before.topic_id) or now.topic_id != before.topic_id:
            return f"topic {name} was deleted and recreated"
        if now.partition_count != before.partition_count:
            return f"topic {name} has {now.partition_count} partitions now, it had {before.partition_count}"
        return ""

    async def _look_at_group(self, client: AIOKafkaClient) -> None:
        """See, for a worker that has no partition, whether others have all."""
        ownership = self._ownership
        if ownership.partitions or ownership.membership is None or ownership.is_suspended or self._stands_aside():
            self.unowned, self._unowned_count = (), 0
            return
        node_id = await client.coordinator_lookup(CoordinationType.GROUP, ownership.group_id)
        answer = await client.send(node_id, DescribeGroups([ownership.group_id]))
        ((code, _group, state, _protocol_type, _protocol, members),) = answer.groups
        if code:
            raise for_code(code)(f"no answer to who is in {ownership.group_id}")
        count = min(self._known[topic].partition_count for topic in ownership.input_topics if topic in self._known)
        self.unowned = unowned_numbers(count, [member[-1] for member in members]) if state == "Stable" else ()
        self._unowned_count = self._unowned_count + 1 if self.unowned else 0
        if self._unowned_count >= _LOOKS_TO_GIVE_UP:
            raise InputsChanged(
                f"{ownership.group_id} has {len(members)} members, but none of them works on partitions "
                f"{', '.join(map(str, self.unowned))}"
            )

    async def _look_at_brokers(self, client: AIOKafkaClient, found: Mapping[str, TopicMetadata]) -> None:
        """Let every broker answer that leads a partition or coordinates group or transactions.

        While some are away those that are left name the old leaders, if they cannot elect others, and say themselves
        that nothing is wrong.
        """
        for name, topic in found.items():
            if topic.weak:
                said = f"{name}-{topic.weak[0]} has no leader, or at most half of its replicas are in sync"
                raise ClusterIncomplete(said)
        asked = {leader for topic in found.values() for leader in topic.leaders.values()}
        for kind, key in (
            (CoordinationType.GROUP, self._ownership.group_id),
            (CoordinationType.TRANSACTION, self._transactional_id),
        ):
            asked.add(await client.coordinator_lookup(kind, key))
        answers = await asyncio.gather(
            *(client.send(node_id, DescribeTopics(())) for node_id in asked), return_exceptions=True
        )
        for node_id, answer in zip(asked, answers, strict=True):
            if isinstance(answer, KafkaError | OSError):
                raise ClusterIncomplete(f"broker {node_id} does not answer ({answer!r})")
            if isinstance(answer, BaseException):
                raise answer
