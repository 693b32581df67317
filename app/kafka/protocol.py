"""Requests of the Kafka protocol that aiokafka 0.14 does not know, in the one version that is needed of each.

Those of a transaction are in `transaction_protocol`. Source: https://kafka.apache.org/protocol; KIP-447 for
OffsetFetch, KIP-664 for ListTransactions.
"""

from __future__ import annotations

from typing import Any, ClassVar

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.admin import DescribeGroupsRequest_v1
from aiokafka.protocol.api import RequestStruct, Response
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
COMMITTED_OFFSET = (("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", STRING))


def by_topic(name: str, *fields: tuple[str, Any]) -> CompactArray:
    """Return an array of topics and their partitions under a name: of these fields, or without any plain numbers."""
    partitions = CompactArray(*fields, ("tags", TaggedFields)) if fields else CompactArray(Int32)
    return CompactArray(("topic", STRING), (name, partitions), ("tags", TaggedFields))


class OneVersionRequest:
    """A request in the one version of its `STRUCT`, from its fields in the schema's order, tags left out."""

    STRUCT: ClassVar[type[RequestStruct]]

    def __init__(self, *fields: object) -> None:
        self.fields = fields

    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        """Return the bytes of the request; aiokafka calls this with the broker's versions of each api."""
        struct = self.STRUCT
        oldest, newest = versions.get(struct.API_KEY, (0, -1))
        if not oldest <= struct.API_VERSION <= newest:
            raise IncompatibleBrokerVersion(
                f"the broker knows {type(self).__name__} in versions {oldest} to {newest}, not in {struct.API_VERSION}"
            )
        return struct(*self.fields, NO_TAGS) if struct.FLEXIBLE_VERSION else struct(*self.fields)


class OffsetFetchResponseV7(Response):
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("topics", by_topic("partitions", *COMMITTED_OFFSET, ("error_code", Int16))),
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
        ("topics", by_topic("partitions")),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class OffsetFetch(OneVersionRequest):
    """A group's committed offsets: group id, topics with their partitions, whether only stable ones will do."""

    STRUCT = OffsetFetchRequestV7


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


class ListTransactions(OneVersionRequest):
    """The transactions that a broker coordinates: of some states, of some producer ids (none: of all)."""

    STRUCT = ListTransactionsRequestV0


class DescribeGroups(OneVersionRequest):
    """Groups' members, by a list of group ids; aiokafka's own reads version 3 with the response of version 2."""

    STRUCT = DescribeGroupsRequest_v1
