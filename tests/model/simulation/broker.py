"""A Kafka cluster of one broker in memory: it answers the requests that the product's workers send.

Each request is done in one moment, as far as its answer does not wait for others (JoinGroup, SyncGroup, Fetch).
"""

from __future__ import annotations

import time
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.protocol.metadata import MetadataRequest

from simulation import requests
from simulation.coordinator import TransactionCoordinator
from simulation.group import Group
from simulation.log import Batch, Log
from simulation.network import HOST, NODE, PORT
from simulation.wire import TRY_AGAIN, batches_of, for_each, offsets_taken, produced, refusal

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Mapping, Sequence

    from aiokafka.structs import ConsumerRecord

    from simulation.trace import Trace

_VERSIONS = {0: (3, 8), 3: (1, 10), 10: (0, 1), 15: (0, 1), 18: (0, 3), 22: (0, 0), 24: (0, 0), 25: (0, 0), 66: (0, 0)}
_OF_TRANSACTIONS_1 = {9: (0, 7), 26: (0, 3), 28: (0, 3)}
_OF_TRANSACTIONS_2 = {0: (3, 12), 9: (0, 7), 26: (0, 5), 28: (0, 5)}


class Broker:
    """Topics, groups and transactions.

    `transaction_version` is 1 or 2; `may_list`: it tells which transactions are open; `stamped` are topics of
    LogAppendTime.
    """

    def __init__(
        self,
        topics: Mapping[str, int],
        groups: Sequence[str],
        *,
        stamped: Collection[str],
        transaction_version: int,
        may_list: bool,
        slow_marker_rate: float,
        rng: random.Random,
        trace: Trace,
        later: Callable[..., None],
    ) -> None:
        self.topics = dict(topics)
        self.logs = {
            TopicPartition(name, n): Log(name, n, is_stamped=name in stamped)
            for name, count in topics.items()
            for n in range(count)
        }
        self.groups = {one: Group(one, trace, later=later) for one in groups}
        self.versions = _VERSIONS | (_OF_TRANSACTIONS_1 if transaction_version == 1 else _OF_TRANSACTIONS_2)
        self.on_change: Callable[[], None] = lambda: None
        self._version = transaction_version
        self._may_list = may_list
        self._later = later
        self._trace = trace
        self.coordinator = TransactionCoordinator(
            self.logs,
            self.groups,
            rng,
            trace,
            slow_marker_rate=slow_marker_rate,
            later=later,
            on_marker=self._wake_readers,
        )
        self._fetches: dict[requests.Fetch, Callable[[Any], None]] = {}

    def handle(self, request: Any, client_id: str, reply: Callable[[Any], None]) -> None:
        """Do what a request says, and answer it now or later."""
        match request:
            case requests.JoinGroup():
                group = self.groups[request.group_id]
                group.join(request.member_id, client_id, request.session_s, request.metadata, reply)
            case requests.SyncGroup():
                self.groups[request.group_id].sync(request.member_id, request.generation, request.assignments, reply)
            case requests.Fetch():
                self._fetch(request, reply)
            case _:
                reply(
                    self._answers[type(request) if isinstance(request, requests.PlainRequest) else request.API_KEY](
                        request
                    )
                )

    def refuse(self, request: Any, rng: random.Random) -> Any:
        """Return an answer that says "try again", None if there is none to such a request."""
        codes = [] if isinstance(request, requests.PlainRequest) else TRY_AGAIN.get(request.API_KEY, [])
        if not codes:
            return None
        code = rng.choice(codes)
        self._trace.note("it is answered with error %d", code)
        return refusal(request, code)

    def write(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Write a record outside of any transaction; returns its offset."""
        tp = TopicPartition(topic, partition)
        _code, offset = self.logs[tp].append(Batch(((key, value, (), time.time_ns() // 1_000_000),)))
        self._wake_readers(tp)
        return offset

    def committed(self, topic: str) -> list[ConsumerRecord]:
        """Return all committed records of a topic, partition by partition."""
        return [one for n in range(self.topics[topic]) for one in self.logs[TopicPartition(topic, n)].committed()]

    @cached_property
    def _answers(self) -> dict[Any, Callable[[Any], Any]]:
        groups = self.groups
        return {
            requests.ListOffsets: self._list_offsets,
            requests.PlainOffsetFetch: lambda one: {
                tp: groups[one.group_id].committed(tp, require_stable=False)[1] for tp in one.partitions
            },
            requests.OffsetCommit: lambda one: groups[one.group_id].commit_plainly(one.offsets),
            requests.PlainProduce: self._produce_plainly,
            requests.Heartbeat: lambda one: groups[one.group_id].beat(one.member_id, one.generation),
            requests.LeaveGroup: lambda one: groups[one.group_id].leave(one.member_id),
            0: self._produce,
            3: self._describe_topics,
            9: self._fetch_offsets,
            10: lambda one: one.RESPONSE_TYPE(0, 0, None, NODE, HOST, PORT),
            15: self._describe_groups,
            18: self._tell_versions,
            22: self._init_producer,
            24: self._add_partitions,
            25: self._add_offsets,
            26: self._end,
            28: self._take_offsets,
            66: self._list_transactions,
        }

    def _fetch(self, request: requests.Fetch, reply: Callable[[Any], None]) -> None:
        answer = self._read(request)
        if answer:
            reply(answer)
            return
        self._fetches[request] = reply
        self._later(request.max_wait_s, self._end_fetch, request)

    def _end_fetch(self, request: requests.Fetch) -> None:
        reply = self._fetches.pop(request, None)
        if reply is not None:
            reply({})

    def _read(self, request: requests.Fetch) -> dict[TopicPartition, tuple[list[ConsumerRecord], int]]:
        return {
            tp: self.logs[tp].read(position, request.max_records)
            for tp, position in request.positions.items()
            if self.logs[tp].stable_end > position
        }

    def _wake_readers(self, tp: TopicPartition | str) -> None:
        for request in [one for one in self._fetches if tp in one.positions]:
            answer = self._read(request)
            if answer:
                self._fetches.pop(request)(answer)
        self.on_change()

    def _list_offsets(self, request: requests.ListOffsets) -> dict[TopicPartition, int]:
        def of(log: Log) -> int:
            return {"earliest": 0, "stable": log.stable_end, "end": log.end}[request.which]

        return {tp: of(self.logs[tp]) for tp in request.partitions}

    def _describe_topics(self, request: Any) -> Any:
        if request.API_VERSION < 10:
            return self._metadata
        topics = [
            (0, name, _id_of(name), False, [(0, n, NODE, 0, [NODE], [NODE], [], {}) for n in range(count)], 0, {})
            for name, count in self.topics.items()
            if name in {name for _id, name, _tags in request.topics}
        ]
        return request.RESPONSE_TYPE(0, [(NODE, HOST, PORT, None, {})], "model", NODE, topics, 0, {})

    @cached_property
    def _metadata(self) -> Any:
        topics = [
            (0, name, False, [(0, n, NODE, [NODE], [NODE]) for n in range(count)])
            for name, count in self.topics.items()
        ]
        response = MetadataRequest().prepare({3: (1, 1)}).RESPONSE_TYPE
        return response([(NODE, HOST, PORT, None)], NODE, topics)

    def _tell_versions(self, _request: Any) -> Any:
        versions = [(key, low, high, {}) for key, (low, high) in self.versions.items()]
        return SimpleNamespace(
            api_versions=versions,
            finalized_features=lambda: {"transaction.version": self._version},
        )

    def _describe_groups(self, request: Any) -> Any:
        groups = [
            (0, one, self.groups[one].state.value, "consumer", "ebs", [
                (member.member_id, member.client_id, HOST, b"", b"") for member in self.groups[one].members.values()
            ])
            for one in request.groups
        ]  # fmt: skip
        return SimpleNamespace(groups=groups)

    def _list_transactions(self, request: Any) -> Any:
        not_authorized = 53
        states = [(one, 0, "Ongoing", {}) for one in self.coordinator.open_ids()]
        return request.RESPONSE_TYPE(0, 0 if self._may_list else not_authorized, [], states, {})

    def _fetch_offsets(self, request: Any) -> Any:
        group = self.groups[request.group_id]

        def of(topic: str, number: int) -> tuple[Any, ...]:
            code, (offset, metadata) = group.committed(
                TopicPartition(topic, number), require_stable=request.require_stable
            )
            return number, offset, -1, metadata, code, {}

        topics = [(topic, [of(topic, number) for number in numbers], {}) for topic, numbers, _ in request.topics]
        return request.RESPONSE_TYPE(0, topics, 0, {})

    def _init_producer(self, request: Any) -> Any:
        answer = self.coordinator.init(request.transactional_id, request.transaction_timeout_ms / 1_000)
        return request.RESPONSE_TYPE(0, *answer)

    def _add_partitions(self, request: Any) -> Any:
        def add(tp: TopicPartition) -> int:
            who = (request.transactional_id, request.producer_id, request.producer_epoch)
            return self.coordinator.add(*who, partition=tp)

        return request.RESPONSE_TYPE(0, for_each(request.topics, add))

    def _add_offsets(self, request: Any) -> Any:
        who = (request.transactional_id, request.producer_id, request.producer_epoch)
        return request.RESPONSE_TYPE(0, self.coordinator.add(*who, partition=None, group=request.group_id))

    def _produce(self, request: Any) -> Any:
        join = self.coordinator.add if request.API_VERSION >= 12 else self.coordinator.verify
        answers = {}
        for tp, batch in batches_of(request):
            code = join(request.transactional_id, batch.producer_id, batch.epoch, partition=tp)
            answers[tp] = (code, -1) if code else self.logs[tp].append(batch)
        return produced(request, answers)

    def _produce_plainly(self, request: requests.PlainProduce) -> None:
        for tp, records in request.records.items():
            for key, value in records:
                self.write(*tp, key, value)

    def _take_offsets(self, request: Any) -> Any:
        join = self.coordinator.add if request.API_VERSION >= 5 else self.coordinator.verify
        who = (request.transactional_id, request.producer_id, request.producer_epoch)
        code = join(*who, partition=None, group=request.group_id)
        if not code:
            offsets = {
                TopicPartition(topic, number): (offset, metadata)
                for topic, partitions, _ in request.topics
                for number, offset, _epoch, metadata, _ in partitions
            }
            group = self.groups[request.group_id]
            code = group.commit(request.producer_id, (request.generation_id, request.member_id), offsets)
        return offsets_taken(request, code)

    def _end(self, request: Any) -> Any:
        is_commit = request.committed if request.API_VERSION >= 5 else request.transaction_result
        code, *successor = self.coordinator.end(
            request.transactional_id,
            request.producer_id,
            request.producer_epoch,
            is_commit=bool(is_commit),
            version=2 if request.API_VERSION >= 5 else 1,
        )
        if request.API_VERSION >= 5:
            return request.RESPONSE_TYPE(0, code, *successor, {})
        return request.RESPONSE_TYPE(0, code)


def _id_of(topic: str) -> bytes:
    return topic.encode()[-16:].rjust(16, b"-")
