"""How large partitions are on their brokers' disks; aiokafka 0.14 has no DescribeLogDirs, so v1 of it is here."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka.admin import AIOKafkaAdminClient

_TEXT = String("utf-8")


class _DescribeLogDirsResponseV1(Response):  # type: ignore[misc]  # aiokafka is untyped to mypy
    API_KEY = 35
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            Array(
                ("error_code", Int16),
                ("log_dir", _TEXT),
                (
                    "topics",
                    Array(
                        ("name", _TEXT),
                        (
                            "partitions",
                            Array(
                                ("partition", Int32),
                                ("size_bytes", Int64),
                                ("offset_lag", Int64),
                                ("is_future", Boolean),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    )


class _DescribeLogDirsRequestV1(RequestStruct):  # type: ignore[misc]  # aiokafka is untyped to mypy
    API_KEY = 35
    API_VERSION = 1
    RESPONSE_TYPE = _DescribeLogDirsResponseV1
    SCHEMA = Schema(("topics", Array(("topic", _TEXT), ("partitions", Array(Int32)))))


class _DescribeLogDirs(Request[_DescribeLogDirsRequestV1]):  # type: ignore[misc]  # aiokafka is untyped to mypy
    API_KEY = 35

    def __init__(self, partitions_of: Mapping[str, Sequence[int]]) -> None:
        self._partitions_of = partitions_of

    def build(self, request_struct_class: type[_DescribeLogDirsRequestV1]) -> Any:
        return request_struct_class([(topic, list(numbers)) for topic, numbers in self._partitions_of.items()])


async def biggest_partitions(
    admin: AIOKafkaAdminClient, node_ids: Sequence[int], partitions_of: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Return by topic the bytes of its largest partition; nothing where we may not ask (Describe of the cluster)."""
    biggest: defaultdict[str, int] = defaultdict(int)
    for node_id in node_ids:
        try:
            response = await admin._send_request(_DescribeLogDirs(partitions_of), node_id)  # noqa: SLF001  # its only way
        except KafkaError:
            continue  # a broker of another age; sizes are the least of what is looked at
        for _error, _directory, topics in response.results:
            for name, partitions in topics:
                biggest[name] = max(biggest[name], *(size_bytes for _, size_bytes, *_rest in partitions))
    return dict(biggest)
