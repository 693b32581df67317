"""Requests of the Kafka protocol that aiokafka 0.14 does not know, in the one version that is needed of each.

Source: https://kafka.apache.org/protocol; KIP-447 for the first two, KIP-664 for ListTransactions.
"""

from __future__ import annotations

from typing import Any

from aiokafka.protocol.admin import DescribeGroupsRequest_v1
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

STRING = CompactString("utf-8")
NO_TAGS: dict[int, bytes] = {}
_COMMITTED = (("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", STRING))


def _by_topic(name: str, *fields: tuple[str, Any]) -> CompactArray:
    """Return an array of topics and their partitions under a name: of these fields, or without any plain numbers."""
    partitions = CompactArray(*fields, ("tags", TaggedFields)) if fields else CompactArray(Int32)
    return CompactArray(("topic", STRING), (name, partitions), ("tags", TaggedFields))


class TxnOffsetCommitResponseV3(Response):
    API_KEY = 28
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("errors", _by_topic("partition_errors", ("partition", Int32), ("error_code", Int16))),
        ("tags", TaggedFields),
    )


class TxnOffsetCommitRequestV3(RequestStruct):
    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TxnOffsetCommitResponseV3
    SCHEMA = Schema(
        ("transactional_id", STRING),
        ("group_id", STRING),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", STRING),
        ("group_instance_id", STRING),
        ("topics", _by_topic("partitions", *_COMMITTED)),
        ("tags", TaggedFields),
    )


class OffsetFetchResponseV7(Response):
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("topics", _by_topic("partitions", *_COMMITTED, ("error_code", Int16))),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class OffsetFetchRequestV7(RequestStruct):
    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = OffsetFetchResponseV7
    SCHEMA = Schema(
        ("group_id", STRING),
        ("topics", _by_topic("partitions")),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class TxnOffsetCommit(Request[TxnOffsetCommitRequestV3]):
    """TxnOffsetCommit in version 3 only, from its fields in the schema's order."""

    API_KEY = 28

    def __init__(self, *fields: object) -> None:
        self._fields = fields

    def build(self, request_struct_class: type[TxnOffsetCommitRequestV3]) -> TxnOffsetCommitRequestV3:
        return request_struct_class(*self._fields, NO_TAGS)


class OffsetFetch(Request[OffsetFetchRequestV7]):
    """OffsetFetch in version 7 only, from its fields in the schema's order."""

    API_KEY = 9

    def __init__(self, *fields: object) -> None:
        self._fields = fields

    def build(self, request_struct_class: type[OffsetFetchRequestV7]) -> OffsetFetchRequestV7:
        return request_struct_class(*self._fields, NO_TAGS)


class ListTransactionsResponseV0(Response):
    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_state_filters", CompactArray(STRING)),
        (
            "transaction_states",
            CompactArray(
                ("transactional_id", STRING),
                ("producer_id", Int64),
                ("transaction_state", STRING),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class ListTransactionsRequestV0(RequestStruct):
    API_KEY = 66
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ListTransactionsResponseV0
    SCHEMA = Schema(
        ("state_filters", CompactArray(STRING)),
        ("producer_id_filters", CompactArray(Int64)),
        ("tags", TaggedFields),
    )


class ListTransactions(Request[ListTransactionsRequestV0]):
    """The transactions that a broker coordinates and that are in one of some states."""

    API_KEY = 66

    def __init__(self, states: list[str]) -> None:
        self._states = states

    def build(self, request_struct_class: type[ListTransactionsRequestV0]) -> ListTransactionsRequestV0:
        return request_struct_class(self._states, [], NO_TAGS)


class DescribeGroup(Request[DescribeGroupsRequest_v1]):
    """A group's members; aiokafka's own request reads version 3 with the response of version 2."""

    API_KEY = 15

    def __init__(self, group_id: str) -> None:
        self._group_id = group_id

    def build(self, request_struct_class: type[DescribeGroupsRequest_v1]) -> DescribeGroupsRequest_v1:
        return request_struct_class([self._group_id])
