"""What requests of transactions carry, and what their answers look like, in the versions that there are."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.record import MemoryRecords

from simulation.log import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_COORDINATOR_CODES = (14, 15, 16)
"""It is loading, not available, or another one."""
_CONCURRENT_TRANSACTIONS = 51
TRY_AGAIN: dict[int, Sequence[int]] = {
    0: (6, 7, 19),  # another leader, timed out, too few replicas
    9: _COORDINATOR_CODES,
    22: _COORDINATOR_CODES,
    24: (*_COORDINATOR_CODES, _CONCURRENT_TRANSACTIONS),
    25: (*_COORDINATOR_CODES, _CONCURRENT_TRANSACTIONS),
    26: (*_COORDINATOR_CODES, _CONCURRENT_TRANSACTIONS),
    28: _COORDINATOR_CODES,
}
"""By request, error codes that say: nothing was done, try again."""
_BATCH_FIELDS = struct.Struct(">qhi")
_BATCH_FIELDS_AT = 43
"""Where producer id, epoch and first sequence stand in a batch of format 2."""


def refusal(request: Any, code: int) -> Any:
    """Return the answer to a request of which nothing was done."""
    answer = request.RESPONSE_TYPE
    by_key: dict[int, Callable[[], Any]] = {
        0: lambda: produced(request, {tp: (code, -1) for tp, _ in batches_of(request)}),
        9: lambda: answer(0, [], code, {}),
        22: lambda: answer(0, code, -1, -1),
        24: lambda: answer(0, for_each(request.topics, lambda _: code)),
        25: lambda: answer(0, code),
        26: lambda: answer(0, code, -1, -1, {}) if request.API_VERSION >= 5 else answer(0, code),
        28: lambda: offsets_taken(request, code),
    }
    return by_key[request.API_KEY]()


def produced(request: Any, answers: Mapping[TopicPartition, tuple[int, int]]) -> Any:
    """Return the answer to a Produce request, from each partition's error code and offset."""
    topics: dict[str, list[tuple[Any, ...]]] = {}
    tags: tuple[Any, ...] = ({},) if request.API_VERSION >= 12 else ()
    details = ([], None) if request.API_VERSION >= 8 else ()
    for tp, (code, offset) in answers.items():
        topics.setdefault(tp.topic, []).append((tp.partition, code, offset, -1, 0, *details, *tags))
    return request.RESPONSE_TYPE([(name, parts, *tags) for name, parts in topics.items()], 0, *tags)


def offsets_taken(request: Any, code: int) -> Any:
    """Return the answer to a TxnOffsetCommit request."""
    topics = [(topic, [(one[0], code, {}) for one in parts], {}) for topic, parts, _ in request.topics]
    return request.RESPONSE_TYPE(0, topics, {})


def for_each(topics: Any, code_of: Callable[[TopicPartition], int]) -> list[tuple[str, list[tuple[int, int]]]]:
    """Return an error code for each partition of some topics."""
    return [(topic, [(n, code_of(TopicPartition(topic, n))) for n in numbers]) for topic, numbers in sorted(topics)]


def batches_of(request: Any) -> list[tuple[TopicPartition, Batch]]:
    """Return what a Produce request carries, partition by partition."""
    return [
        (TopicPartition(topic, number), _batch_of(bytes(data)))
        for topic, partitions, *_ in request.topics
        for number, data, *_ in partitions
    ]


def _batch_of(data: bytes) -> Batch:
    producer_id, epoch, first_sequence = _BATCH_FIELDS.unpack_from(data, _BATCH_FIELDS_AT)
    reader, records = MemoryRecords(data), []
    while (found := reader.next_batch()) is not None:
        records += [(one.key, one.value, tuple(one.headers), one.timestamp) for one in found]
    return Batch(tuple(records), producer_id, epoch, first_sequence)
