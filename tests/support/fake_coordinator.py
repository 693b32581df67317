"""A Kafka coordinator in memory, behind the part of aiokafka's client that the streaming layer uses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.transaction import InitProducerIdRequest

from app.kafka.fencing import UNSTABLE_OFFSET_COMMIT
from app.kafka.groups import NOTHING_COMMITTED
from app.kafka.leader_epochs import OffsetForLeaderEpoch
from app.kafka.protocol import DescribeGroups, ListTransactions
from app.kafka.topic_metadata import DescribeTopics


class Answer(NamedTuple):
    """An OffsetFetch response."""

    error_code: int
    topics: list[tuple[str, list[tuple[int, int, int, str, int, dict[int, bytes]]], dict[int, bytes]]]


class FakeCoordinator:
    """The group's coordinator: committed offsets and metadata; `unstable` ones have an open transaction.

    It is the coordinator of transactions and the cluster's only broker too.
    """

    def __init__(self) -> None:
        self.committed: dict[TopicPartition, tuple[int, str]] = {}
        self.epochs: dict[TopicPartition, int] = {}
        self.unstable: set[TopicPartition] = set()
        self.open_transactions: set[str] = set()
        self.member_client_ids: set[str] = set()
        self.ended: list[str] = []
        self.error: Exception | None = None
        self.refusal = 0
        self.describe_refusal = 0
        self.asked = 0
        self.cluster = self
        self.topic_ids: dict[str, str] = {}
        self.partition_count = 4
        self.leaders: dict[int, int] = {}
        self.replicas = [1, 2, 3]
        self.in_sync = [1, 2, 3]
        self.assignments: list[bytes] = []
        self.silent: set[int] = set()
        self.coordinator = 1
        self.epoch_ends: dict[tuple[TopicPartition, int], int] = {}
        self.epoch_refusal = 0

    def brokers(self) -> list[SimpleNamespace]:
        """Return the one broker."""
        return [SimpleNamespace(nodeId=1)]

    async def coordinator_lookup(self, _kind: object, _group_id: str) -> int:
        """Return the node."""
        return self.coordinator

    async def ready(self, _node_id: int, *, group: object) -> bool:
        """Be there."""
        return group is not None

    def get_random_node(self) -> int:
        """Return the node."""
        return 1

    async def send(self, node_id: int, request: Any, *, group: object = None) -> Any:
        """Answer what the streaming layer asks of its brokers, by whatever connection."""
        assert group is None or node_id == self.coordinator
        if node_id in self.silent:
            raise KafkaConnectionError(f"node {node_id} is away")
        if isinstance(request, DescribeTopics):
            return SimpleNamespace(cluster_id="c", topics=[self._topic(name) for name in request.names])
        if isinstance(request, ListTransactions):
            states = [(one, 1, "Ongoing", {}) for one in self.open_transactions]
            return SimpleNamespace(error_code=self.refusal, transaction_states=states)
        if isinstance(request, DescribeGroups):
            members = [("member", one, "host", b"", b"") for one in self.member_client_ids]
            members += [("member", "client", "host", b"", one) for one in self.assignments]
            return SimpleNamespace(groups=[(self.describe_refusal, "group", "Stable", "consumer", "ebs", members)])
        if isinstance(request, InitProducerIdRequest):
            self.ended.append(request._transactional_id)
            return SimpleNamespace(error_code=51)
        if isinstance(request, OffsetForLeaderEpoch):
            return SimpleNamespace(topics=[self._epochs(node_id, *one) for one in request.fields[1]])
        self.asked += 1
        if self.error is not None:
            raise self.error
        _group_id, asked, require_stable = request.fields
        assert require_stable
        return Answer(
            0, [(topic, [self._answer(topic, number) for number in numbers], {}) for topic, numbers, _ in asked]
        )

    def _epochs(self, node_id: int, topic: str, partitions: list[Any], _tags: object) -> tuple[Any, ...]:
        """Return where the logs of epochs end; -1 of one that nobody knows."""
        assert {node_id} == {self.leaders.get(one[0], 1) for one in partitions}
        ends = self.epoch_ends
        answers = [
            (self.epoch_refusal, number, epoch, ends.get((TopicPartition(topic, number), epoch), -1), {})
            for number, _, epoch, _ in partitions
        ]
        return topic, answers, {}

    def _topic(self, name: str) -> tuple[Any, ...]:
        """Return a topic as Metadata v12 has it; one whose id is "" is gone."""
        topic_id = self.topic_ids.get(name, name)
        count = self.partition_count if topic_id else 0
        partitions = [(0, n, self.leaders.get(n, 1), 0, self.replicas, self.in_sync) for n in range(count)]
        return 0 if topic_id else 3, name, topic_id.encode(), False, partitions

    def _answer(self, topic: str, number: int) -> tuple[int, int, int, str, int, dict[int, bytes]]:
        tp = TopicPartition(topic, number)
        offset, metadata = self.committed.get(tp, (NOTHING_COMMITTED, ""))
        code = UNSTABLE_OFFSET_COMMIT if tp in self.unstable else 0
        return number, offset, self.epochs.get(tp, -1), metadata, code, {}
