"""Requests of a transaction that aiokafka 0.14 does not know, each in the version that we need.

Source: https://kafka.apache.org/protocol; KIP-447 for TxnOffsetCommit v3, KIP-584 for the features that ApiVersions v3
tells, KIP-890 for Produce v12, TxnOffsetCommit v5 and EndTxn v5.
"""

from __future__ import annotations

from io import BytesIO

from aiokafka.protocol.api import RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from app.kafka.protocol import COMMITTED_OFFSET, STRING, OneVersionRequest, by_topic

_TAGS = ("tags", TaggedFields)
_SUPPORTED_FEATURES_TAG = 0
_FINALIZED_FEATURES_TAG = 2


class ApiVersionsResponseV3(Response):
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("api_versions", CompactArray(("api_key", Int16), ("min_version", Int16), ("max_version", Int16), _TAGS)),
        ("throttle_time_ms", Int32),
        _TAGS,
    )

    def supported_features(self) -> dict[str, int]:
        """Return the newest level of each feature that the broker knows."""
        return self._features(_SUPPORTED_FEATURES_TAG, ("min_level", "max_level"))

    def finalized_features(self) -> dict[str, int]:
        """Return the level of each feature that the whole cluster has agreed on."""
        return self._features(_FINALIZED_FEATURES_TAG, ("max_level", "min_level"))

    def _features(self, tag: int, levels: tuple[str, str]) -> dict[str, int]:
        told = self.tags.get(tag)
        if told is None:
            return {}
        features = CompactArray(("name", STRING), *((level, Int16) for level in levels), _TAGS)
        position = 1 + levels.index("max_level")
        return {feature[0]: feature[position] for feature in features.decode(BytesIO(told)) or ()}


class ApiVersionsRequestV3(RequestStruct):
    API_KEY = 18
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ApiVersionsResponseV3
    SCHEMA = Schema(("client_software_name", STRING), ("client_software_version", STRING), _TAGS)

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> ResponseHeader_v0:
        """Read the header of version 0: that of this answer never changes, so that every client can read it."""
        return ResponseHeader_v0.decode(read_buffer)


class ApiVersions(OneVersionRequest):
    """Asks for the abilities of a broker, and the features of its cluster; has the client's name and version."""

    STRUCT = ApiVersionsRequestV3


class ProduceResponseV12(Response):
    API_KEY = 0
    API_VERSION = 12
    SCHEMA = Schema(
        (
            "topics",
            by_topic(
                "partitions",
                ("partition", Int32),
                ("error_code", Int16),
                ("offset", Int64),
                ("timestamp", Int64),
                ("log_start_offset", Int64),
                ("record_errors", CompactArray(("batch_index", Int32), ("message", STRING), _TAGS)),
                ("error_message", STRING),
            ),
        ),
        ("throttle_time_ms", Int32),
        _TAGS,
    )


class ProduceRequestV12(RequestStruct):
    API_KEY = 0
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ProduceResponseV12
    SCHEMA = Schema(
        ("transactional_id", STRING),
        ("required_acks", Int16),
        ("timeout", Int32),
        ("topics", by_topic("partitions", ("partition", Int32), ("records", CompactBytes))),
        _TAGS,
    )


class TxnOffsetCommitResponseV3(Response):
    API_KEY = 28
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("errors", by_topic("partition_errors", ("partition", Int32), ("error_code", Int16))),
        _TAGS,
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
        ("topics", by_topic("partitions", *COMMITTED_OFFSET)),
        _TAGS,
    )


class TxnOffsetCommitResponseV5(TxnOffsetCommitResponseV3):
    API_VERSION = 5


class TxnOffsetCommitRequestV5(TxnOffsetCommitRequestV3):
    API_VERSION = 5
    RESPONSE_TYPE = TxnOffsetCommitResponseV5


class EndTxnResponseV5(Response):
    API_KEY = 26
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _TAGS,
    )


class EndTxnRequestV5(RequestStruct):
    API_KEY = 26
    API_VERSION = 5
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = EndTxnResponseV5
    SCHEMA = Schema(
        ("transactional_id", STRING),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("committed", Boolean),
        _TAGS,
    )


class Produce(OneVersionRequest):
    """Records of partitions that need not be added to the transaction before."""

    STRUCT = ProduceRequestV12
    required_acks = -1


class TxnOffsetCommit(OneVersionRequest):
    """Offsets, with the member id and generation of the worker that commits them."""

    STRUCT = TxnOffsetCommitRequestV3


class TxnOffsetCommitV2(OneVersionRequest):
    """The same in a transaction of version 2: the group need not be added to the transaction before."""

    STRUCT = TxnOffsetCommitRequestV5


class EndTxn(OneVersionRequest):
    """The end of a transaction; its answer says under which epoch the next one runs."""

    STRUCT = EndTxnRequestV5


NEEDED_VERSIONS = {
    struct.API_KEY: struct.API_VERSION for struct in (ProduceRequestV12, TxnOffsetCommitRequestV5, EndTxnRequestV5)
}
"""The request versions that a broker needs for transactions of version 2, by api key."""
